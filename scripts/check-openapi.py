"""Places an order on a running platform by what its documents say, for schemathesis to ask about.

Prints addresses and token for a shell, and writes the ids of what belongs to the order as
parameters for schemathesis.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

endpoints = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
commands, queries, token = (endpoints[name] for name in ("command_url", "query_url", "token"))


def ask(url: str, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data)
    request.add_header("Authorization", f"Bearer {token}")
    if data is not None:
        request.add_header("Content-Type", "application/json")
        request.add_header("Idempotency-Key", f"check-{url.removeprefix(commands)}")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def until(url: str, look):
    """What `look` finds in the answer, as soon as it finds anything."""
    for _ in range(600):
        try:
            found = look(ask(url))
        except urllib.error.HTTPError as error:
            if error.code not in (404, 503):
                raise
            found = None
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"{url}: waited in vain")


def example(path: str):
    operation = ask(f"{commands}/openapi.json")["paths"][path]["post"]
    return operation["requestBody"]["content"]["application/json"]["example"]


ask(f"{commands}/v1/stock/mug/receive", example("/v1/stock/{sku}/receive"))
placed = ask(f"{commands}/v1/orders", example("/v1/orders"))
order = placed["id"]
shipment = until(
    f"{queries}/v1/orders/{order}/shipments", lambda page: page["data"] and page["data"][0]
)
parameters = {
    "order_id": order,
    "payment_id": placed["links"]["payment"].rsplit("/", 1)[1],
    "saga_id": placed["links"]["saga"].rsplit("/", 1)[1],
    "customer_id": example("/v1/orders")["customer"],
    "fulfilment_id": shipment["fulfilment_id"],
    "sku": "mug",
    "category": "order",
    "id": order.removeprefix("ord_"),
}
lines = [f'"path.{name}" = "{value}"' for name, value in parameters.items()]
Path(sys.argv[2]).write_text("\n".join(["[parameters]", *lines, ""]), encoding="utf-8")
print(f"commands={commands}\nqueries={queries}\ntoken={token}")
