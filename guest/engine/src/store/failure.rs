//! Why Redis did not say, told apart for logs and metrics: one table of failure causes.

use alloc::string::String;
use core::fmt;

use crate::redis::CallError;

/// Makes the causes out of their table.
macro_rules! failure_causes {
    ($($(#[doc = $what:literal])+ $cause:ident, $name:literal, codes $codes:expr, phrases $phrases:expr;)+) => {
        /// Why a decision could not be had from Redis.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum FailureCause {
            $($(#[doc = $what])+ $cause,)+
        }

        /// By the code that an error begins with.
        const CODES: &[(&[&str], FailureCause)] = &[$((&$codes, FailureCause::$cause)),+];

        /// By what an error says somewhere, in small letters, where its code is only `ERR`: what a script meets, older
        /// servers say so behind its name and line.
        const PHRASES: &[(&[&str], FailureCause)] = &[$((&$phrases, FailureCause::$cause)),+];

        impl FailureCause {
            /// All there are.
            pub const ALL: &[FailureCause] = &[$(FailureCause::$cause),+];

            /// As metrics, log lines and headers spell it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(FailureCause::$cause => $name,)+
                }
            }

            /// The codes of Redis' error replies that tell of it.
            #[must_use]
            pub fn codes(self) -> &'static [&'static str] {
                match self {
                    $(FailureCause::$cause => &$codes,)+
                }
            }
        }
    };
}

// The table: what each cause is, how it is spelt, and by what an error reply tells of it. Those that a call can fail of
// come first.
failure_causes! {
    /// It cannot be reached, or the connection broke.
    Connect, "connect", codes [], phrases [];
    /// It did not answer in time.
    Timeout, "timeout", codes [], phrases [];
    /// User or password are wrong, missing, or may not do this.
    Auth, "auth", codes ["NOAUTH", "WRONGPASS", "NOPERM"],
        phrases ["can't run this command", "no permissions", "without any password configured", "unauthenticated"];
    /// It is still loading its data.
    Loading, "loading", codes ["LOADING"], phrases [];
    /// It is a read-only replica.
    ReadOnly, "read_only", codes ["READONLY"], phrases ["read only replica"];
    /// It is a replica that has lost its master and does not serve old data.
    MasterDown, "master_down", codes ["MASTERDOWN"], phrases [];
    /// It has no memory left for writes.
    OutOfMemory, "out_of_memory", codes ["OOM"], phrases ["maxmemory"];
    /// It cannot save its data, and takes no writes until it can.
    Misconf, "misconf", codes ["MISCONF"], phrases [];
    /// It has fewer replicas than it wants for writes.
    NoReplicas, "no_replicas", codes ["NOREPLICAS"], phrases [];
    /// It is busy with somebody's script, or killed ours.
    Busy, "busy", codes ["BUSY", "UNKILLABLE"], phrases ["script killed"];
    /// It has as many clients as it takes.
    MaxClients, "max_clients", codes [], phrases ["max number of clients", "max clients"];
    /// It does not know a command that is needed: too old, renamed, or a proxy that does not pass it on.
    UnknownCommand, "unknown_command", codes [],
        phrases ["unknown command", "unknown redis command", "unknown subcommand", "unsupported command"];
    /// A key of ours holds something else.
    WrongType, "wrong_type", codes ["WRONGTYPE"], phrases [];
    /// It is a cluster node that does not serve this key, or a cluster that is down.
    ClusterRedirect, "cluster_redirect", codes ["MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT", "TRYAGAIN"],
        phrases ["cross slot"];
    /// It answered something else than was asked.
    BadReply, "bad_reply", codes [], phrases [];
    /// It was not asked: as much waits for it as this instance has room for.
    Overloaded, "overloaded", codes [], phrases [];
    /// It was not asked: the rule has begun as many new keys in this second as it may.
    NewKeys, "new_keys", codes [], phrases [];
}

/// The cause that a table has for an error, if any of its marks is in it.
fn find(table: &[(&[&str], FailureCause)], is_in: impl Fn(&str) -> bool) -> Option<FailureCause> {
    table.iter().find(|(marks, _)| marks.iter().any(|mark| is_in(mark))).map(|(_, cause)| *cause)
}

impl FailureCause {
    /// Those that a call can fail of, and not a request before its call.
    pub const OF_CALLS: &[FailureCause] = FailureCause::ALL.split_at(15).0;

    /// Of an error reply.
    pub(crate) fn of_error(text: &str) -> FailureCause {
        let code = text.split_ascii_whitespace().next().unwrap_or_default();
        if let Some(cause) = find(CODES, |each| each == code) {
            return cause;
        }
        let said = sayable(text);
        // An error that a script met, as servers before 7.0 quote it: `ERR Error running script (call to f_...):
        // @user_script:88: -OOM command ...`.
        let is_quoted = |code: &str| text.contains("user_script") && said.split(['-', ' ']).any(|word| word == code);
        if let Some(cause) = find(CODES, is_quoted) {
            return cause;
        }
        let small = said.to_ascii_lowercase();
        if let Some(cause) = find(PHRASES, |phrase| small.contains(phrase)) {
            return cause;
        }
        // The script ran, and stumbled over what a key holds.
        let stumbled = [
            "bad argument",
            "data string too short",
            "attempt to compare",
            "attempt to perform arithmetic",
            "attempt to index",
            "attempt to get length",
        ];
        if text.contains("user_script") && stumbled.iter().any(|phrase| small.contains(phrase)) {
            return FailureCause::WrongType;
        }
        FailureCause::BadReply
    }
}

/// What of an error's text may be shown: not what it quotes, since that may be a key, and in a key stands what a client
/// sent.
pub(crate) fn sayable(text: &str) -> String {
    let ends = [", with args", "slidegate:", "'slidegate", "\"slidegate", "`slidegate", ", key "];
    let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let shown = text.get(..end).unwrap_or_default().trim_end();
    if end < text.len() { String::from(shown) + " ..." } else { String::from(shown) }
}

/// The same of an error that may quote anything: its code.
pub(crate) fn sayable_code(text: &str) -> String {
    sayable(text.split(' ').next().unwrap_or_default())
}

impl From<CallError> for FailureCause {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Connect | CallError::Disconnected | CallError::UnknownService => FailureCause::Connect,
            CallError::Timeout => FailureCause::Timeout,
            CallError::Protocol | CallError::TooLarge => FailureCause::BadReply,
            CallError::Refused => FailureCause::UnknownCommand,
        }
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn errors_are_told_apart_by_code_and_where_there_is_none_by_words() {
        for (text, cause) in [
            ("NOAUTH Authentication required.", "auth"),
            ("NOPERM this user has no permissions to run the 'evalsha' command or its subcommand", "auth"),
            ("NOPERM No permissions to access a key", "auth"),
            ("ERR AUTH <password> called without any password configured for the default user. Are you sure?", "auth"),
            ("ERR Client sent AUTH, but no password is set. without any password configured", "auth"),
            ("ERR Protocol error: unauthenticated multibulk length", "auth"),
            (
                "ERR The user executing the script can't run this command or subcommand script: 2a26, on \
                 @user_script:38.",
                "auth",
            ),
            ("ERR Error running script (call to f_2a26): @user_script:38: -NOPERM User can't run this", "auth"),
            ("LOADING Redis is loading the dataset in memory", "loading"),
            ("READONLY You can't write against a read only replica. script: 2a26, on @user_script:190.", "read_only"),
            (
                "ERR Error running script (call to f_2a26): @user_script:9: -READONLY You can't write against a \
                 replica",
                "read_only",
            ),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "master_down"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "out_of_memory"),
            (
                "ERR Error running script (call to f_2a26): @user_script: 41: -OOM command not allowed when used \
                 memory",
                "out_of_memory",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
                "misconf",
            ),
            ("ERR Error running script (call to f_2): @user_script:7: -MISCONF Redis is configured to save", "misconf"),
            ("NOREPLICAS Not enough good replicas to write.", "no_replicas"),
            ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "busy"),
            (
                "ERR Error running script (call to f_2): @user_script:7: Script killed by user with SCRIPT KILL...",
                "busy",
            ),
            ("ERR max number of clients reached", "max_clients"),
            ("ERR max number of clients + cluster connections reached", "max_clients"),
            (
                "ERR unknown command 'EVALSHA', with args beginning with: '2a26' '1' 'slidegate:{r:OOM }' ",
                "unknown_command",
            ),
            ("ERR unknown command `evalsha`, with args beginning with: `a`", "unknown_command"),
            ("ERR Unknown Redis command called from script script: 2a26, on @user_script:38.", "unknown_command"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value, key slidegate:{r}", "wrong_type"),
            ("ERR user_script:88: bad argument #2 to 'read' (data string too short) script: 2a26", "wrong_type"),
            (
                "ERR Error running script (call to f_2): @user_script:8: user_script:8: attempt to compare nil with \
                 number",
                "wrong_type",
            ),
            ("MOVED 866 127.0.0.1:1", "cluster_redirect"),
            ("CLUSTERDOWN Hash slot not served", "cluster_redirect"),
            (
                "ERR Write commands not allowed after non deterministic commands script: 2, on @user_script:9",
                "bad_reply",
            ),
            ("ERR Error compiling script (new function): user_script:1: '=' expected near 'x'", "bad_reply"),
            ("ERR value is not an integer or out of range, key slidegate:{r:unknown command}", "bad_reply"),
            ("", "bad_reply"),
        ] {
            assert_eq!(FailureCause::of_error(text).to_string(), cause, "{text}");
        }
    }

    #[test]
    fn calls_fail_of_all_but_what_keeps_them_from_being_made() {
        let others = FailureCause::ALL.iter().filter(|cause| !FailureCause::OF_CALLS.contains(cause));
        assert!(others.eq(&[FailureCause::Overloaded, FailureCause::NewKeys]));
    }

    #[test]
    fn nothing_that_is_quoted_is_shown() {
        for (text, shown) in [
            (
                "ERR unknown command 'EVALSHA', with args beginning with: '2a26' '1' 'slidegate:{r:h:x:SECRET}:1'",
                "ERR unknown command 'EVALSHA' ...",
            ),
            ("WRONGTYPE Operation, key slidegate:{r:h:x:SECRET}:1", "WRONGTYPE Operation ..."),
            ("ERR no such key \"slidegate:{r:SECRET}\"", "ERR no such key ..."),
            ("NOAUTH Authentication required.", "NOAUTH Authentication required."),
        ] {
            assert_eq!(sayable(text), shown);
        }
    }
}
