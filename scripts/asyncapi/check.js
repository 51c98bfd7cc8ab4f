// Reads an AsyncAPI document with the AsyncAPI initiative's own parser; fails where it finds fault.
// Then breaks the document in several ways, each of which the parser has to notice.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const ERROR = 0;
const parser = new Parser();

async function faults(text) {
  const { document, diagnostics } = await parser.parse(text);
  const errors = diagnostics.filter((found) => found.severity === ERROR);
  return document || errors.length > 0 ? errors : [{ path: [], message: "it cannot be read" }];
}

const [path] = process.argv.slice(2);
const text = await readFile(path, "utf8");
const found = await faults(text);
for (const { path: where, message } of found) {
  console.error(`${path}: ${where.join("/")}: ${message}`);
}
if (found.length > 0) process.exit(1);

const slips = {
  "a channel without its message": (broken, name) => delete broken.components.messages[name],
  "an operation that does nothing": (broken, name) => (broken.operations[name].action = "rest"),
  "a payload that is no schema": (broken, name) =>
    (broken.components.messages[name].payload.type = "parcel"),
  "a document without a title": (broken) => delete broken.info.title,
};
for (const [slip, make] of Object.entries(slips)) {
  const broken = JSON.parse(text);
  make(broken, "order.placed.v1");
  if ((await faults(JSON.stringify(broken))).length === 0) {
    console.error(`the parser does not notice ${slip}: its word is worth nothing`);
    process.exit(1);
  }
}
console.log(`${path}: ${Object.keys(JSON.parse(text).channels).length} events`);
