//! The codes of Redis' error replies that the host acts on. What an error means to a decision is for the filter to say.

/// The keys' slot is served by another node.
pub(super) const MOVED: &str = "MOVED";
/// The key is at another node, this time.
pub(super) const ASK: &str = "ASK";
/// Some of the keys are here, some already elsewhere.
pub(super) const TRYAGAIN: &str = "TRYAGAIN";
const CLUSTERDOWN: &str = "CLUSTERDOWN";
const LOADING: &str = "LOADING";
const MASTERDOWN: &str = "MASTERDOWN";
const NOAUTH: &str = "NOAUTH";
const NOPERM: &str = "NOPERM";
const READONLY: &str = "READONLY";

/// The code that an error begins with.
pub(super) fn code(error: &str) -> &str {
    error.split(' ').next().unwrap_or_default()
}

/// Whether an error tells that the server is not, or no longer, the one that takes our writes: another may have taken
/// its address over, or its name may lead to another one by now. One that knows no password any more was put behind the
/// same connection by a proxy.
pub(super) fn is_of_another_server(error: &str) -> bool {
    [READONLY, MASTERDOWN, LOADING, NOAUTH].contains(&code(error))
}

/// Whether an error tells that the node cannot decide what its slots are asked, so that another one may have them by
/// now.
pub(super) fn is_of_another_node(error: &str) -> bool {
    [CLUSTERDOWN, MASTERDOWN, LOADING, READONLY].contains(&code(error))
}

/// Whether an error tells that the user may not do this.
pub(super) fn is_of_rights(error: &str) -> bool {
    code(error) == NOPERM
}
