//! How many connections and files a process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process open as many files as it is allowed to. What is usual, 1,024, is fewer than the
/// requests that an API works on at once; more would hang instead of being turned away.
///
/// Where the system says no, the limit stays as it is.
pub fn raise() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
