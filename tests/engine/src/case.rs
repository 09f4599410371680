//! Conformance as data: a configuration, requests with their times, and what an outsider sees of each.
//!
//! A file in `tests/cases/<area>/<name>.yaml` is one case:
//!
//! ```yaml
//! about: what the case proves, in a sentence
//! config: {...}                       # the filter's document, as a Higress WasmPlugin carries it; or, in its place,
//! documented: param                   # one of [`documented::ALL`](crate::documented::ALL)
//! skip: {component: why it cannot}    # only where a runner cannot run it
//! steps:
//!   - at: 0                           # milliseconds on the case's clock; as before if absent
//!     times: 10                       # the same request so often,
//!     every: 100                      # with so many milliseconds between two
//!     path: /?a=b                     # also: method, host ('' for none), route, service,
//!     from: 192.0.2.1:40000           #   from ('' for no address), and
//!     headers: {x-a: b}               #   headers, each a value or a list of them
//!     body: [some, more]              #   body, one piece or a list of them
//!     upstream: {x-c: d}              # what the upstream's response carries
//!     answer:                         # and what it is beside: 200 without a body if absent
//!       status: 200
//!       body: [a, {pause: 500}, b]    #   one piece or several; so many milliseconds pass between two
//!       cut: upstream                 #   it breaks off then, or `client`, who leaves
//!     calls: 0                        # how many commands reached Redis' windows, all repetitions together; or
//!                                     #   by service, `{one.static: 1, two.static: 0}`
//!     pass: {headers: {x-ratelimit-remaining: {down_from: 9}}}
//!                                     #   also: body, what the client gets if it is not the answer's, and sent, what
//!                                     #   the upstream gets if it is not the request's; told, what the upstream gets
//!                                     #   in headers that are not as the client sent them, `''` for nothing;
//!                                     #   a value that nobody knows beforehand is `{begins: a=}`
//!   - refuse: {status: 429, body: Too many requests, headers: {...}}
//!   - store: down                     # from here on; see [`Store`]
//!     of: two.static                  # only the Redis of this service; all of them if absent
//!   - redis: [[SET, a, b], [DEL, c]]  # what others do there; `of` as above
//! ```
//!
//! Each `redis.service_name` of the configuration is a Redis of its own.
//!
//! A request without `pass` or `refuse` is no step, and a field that nobody reads is a mistake. What `refuse` does not
//! say is stock's: 429 and `Too many requests`. `headers` of an expectation are all that the filter adds, no more and
//! no less; without them the filter may add what it likes. A value is a text, a number, `{hex: ff00}`, or `{text: ab,
//! times: 1000}`; the first three may stand in a reply too.

mod document;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;
use slidegate_engine::redis::Reply;

/// One case, as a runner takes it.
#[derive(Debug, Clone)]
pub struct Case {
    /// `<area>/<name>`.
    pub name: String,
    /// What it proves.
    pub about: String,
    /// The filter's document, as JSON.
    pub config: Vec<u8>,
    /// Why a runner cannot run it, by the runner's name.
    pub skip: BTreeMap<String, String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// The Redis of a service changes its mood, or of none: all.
    Store(Store, Option<String>),
    /// Others than the filter say these commands to the Redis of a service, or of none: to all.
    Redis(Vec<Vec<Vec<u8>>>, Option<String>),
    /// Requests of one kind.
    Requests(Box<Requests>),
}

/// How Redis behaves from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// `up`: well again. What [`Store::WrongType`] put into keys is gone.
    Up,
    /// `down`: nobody listens.
    Down,
    /// `silent`: commands are taken and never answered.
    Silent,
    /// `hangs-up`: each connection is closed once a command has arrived.
    HangsUp,
    /// `garbage`: what is answered is not Redis' protocol.
    Garbage,
    /// `forgetful`: the script is forgotten before each command that names it.
    Forgetful,
    /// `wrong-type`: every key asked for holds a text.
    WrongType,
    /// `read-only`: a replica that takes no writes.
    ReadOnly,
    /// `full`: no memory left for writes.
    Full,
    /// `no-auth`: it wants a password that the filter was not given.
    NoAuth,
    /// `{reply: ...}`: this is answered to everything. An error reply is `{error: TEXT}`; others are null, numbers,
    /// texts and lists of these.
    Reply(Reply),
}

/// The same request a number of times.
#[derive(Debug, Clone)]
pub struct Requests {
    /// When the first comes, in milliseconds on the case's clock.
    pub at_ms: u64,
    /// How many there are.
    pub times: u64,
    /// From one to the next, in milliseconds.
    pub every_ms: u64,
    /// What is asked.
    pub request: Request,
    /// The upstream's response, should the request get there.
    pub answer: Answer,
    /// What an outsider sees of each.
    pub expected: Expected,
    /// How many commands Redis decided on, for all of them.
    pub calls: Option<Calls>,
}

/// How many commands are to be decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// By all services together.
    All(usize),
    /// By each of these.
    Of(BTreeMap<String, usize>),
}

/// A request as it arrives at a gateway. Names of headers are in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` unless said.
    pub method: String,
    /// The path with its query, as received.
    pub path: Vec<u8>,
    /// The host it is for, with its port. Empty for none.
    pub host: Vec<u8>,
    /// Header fields in the order received.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The peer.
    pub from: Option<SocketAddr>,
    /// The route that the gateway chose. Empty for none.
    pub route: String,
    /// The upstream that the gateway chose, `outbound|port||name`. Empty for none.
    pub service: String,
    /// The pieces of its body. None: its headers are all of it.
    pub body: Vec<Vec<u8>>,
}

/// What an upstream answers. Names of headers are in lower case.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body. None: its headers are all of it.
    pub body: Vec<AnswerPart>,
    /// Who ends it before its end, after all that stands in `body`.
    pub cut: Option<Cut>,
}

/// What comes next of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, for so many milliseconds.
    Pause(u64),
}

/// Who ends a response early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The client leaves.
    Client,
    /// The upstream breaks off.
    Upstream,
}

/// What an outsider is to see.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The upstream's response.
    Pass {
        /// The fields that are added to it, if it is said which.
        headers: Option<Fields>,
        /// The body that the client gets. None: that of the answer, unless this is cut.
        body: Option<Vec<u8>>,
        /// The body that the upstream gets. None: that of the request.
        sent: Option<Vec<u8>>,
        /// The request's fields that the upstream gets otherwise than the client sent them; empty for none.
        told: Fields,
    },
    /// An answer of the filter's own.
    Refuse {
        /// Its status.
        status: u16,
        /// Its body.
        body: Vec<u8>,
        /// All its fields, if it is said which.
        headers: Option<Fields>,
    },
}

/// Header fields by name in lower case.
pub type Fields = BTreeMap<String, FieldValue>;

/// What a header field is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// This.
    Text(String),
    /// A number that is one less with each repetition.
    DownFrom(u64),
    /// What nobody knows beforehand, which begins so.
    Begins(String),
}

/// What an outsider saw. Names of header fields are in lower case.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The upstream's response came back with these fields.
    Pass {
        /// Fields by name, the upstream's and those that the filter added.
        headers: Vec<(String, Vec<u8>)>,
        /// The body that the client got.
        body: Vec<u8>,
        /// The body that the upstream got.
        sent: Vec<u8>,
        /// The fields of the request that the upstream got.
        told: Vec<(String, Vec<u8>)>,
    },
    /// The filter answered.
    Refuse {
        /// Status.
        status: u16,
        /// Body.
        body: Vec<u8>,
        /// Fields.
        headers: Vec<(String, Vec<u8>)>,
    },
}

// === impl Case ===

impl Case {
    /// Reads a case from YAML.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a line or a few.
    pub fn read(name: &str, yaml: &str) -> Result<Case, String> {
        document::read(name, yaml)
    }

    /// The same case with these fields in each policy that counts in Redis and does not set them itself.
    ///
    /// # Panics
    ///
    /// Never for a case that was read: its configuration is JSON.
    #[must_use]
    pub fn with_fields(&self, fields: &[(&str, bool)]) -> Case {
        let mut config: Value = serde_json::from_slice(&self.config).expect("a case's configuration is JSON");
        for_each_policy(&mut config, &mut |policy| set_fields(policy, fields));
        Case { config: config.to_string().into_bytes(), ..self.clone() }
    }

    /// The services that its configuration names, each a Redis of its own.
    pub fn services(&self) -> BTreeSet<String> {
        services(&self.config)
    }

    /// Whether the Redis of a service is ever in one of these moods.
    pub fn has_store(&self, service: &str, wanted: impl Fn(&Store) -> bool) -> bool {
        let is_meant = |of: &Option<String>| of.as_deref().is_none_or(|of| of == service);
        self.steps.iter().any(|step| matches!(step, Step::Store(store, of) if is_meant(of) && wanted(store)))
    }
}

fn services(config: &[u8]) -> BTreeSet<String> {
    let mut config: Value = serde_json::from_slice(config).unwrap_or_default();
    let mut services = BTreeSet::new();
    for_each_policy(&mut config, &mut |policy| {
        let parts = [Some(&*policy), policy.get("session"), policy.get("cookie_vault"), policy.get("cache")];
        for of in parts.into_iter().flatten() {
            let name = of.get("redis").and_then(|redis| redis.get("service_name")?.as_str());
            services.extend(name.map(str::to_owned));
        }
    });
    services
}

/// Shows each policy of a document: its top, the elements of `_rules_`, and the same of each of its `filters`.
fn for_each_policy(document: &mut Value, act: &mut impl FnMut(&mut Value)) {
    act(document);
    for list in ["_rules_", "filters"] {
        let list = document.get_mut(list).and_then(Value::as_array_mut);
        list.into_iter().flatten().for_each(|each| for_each_policy(each, act));
    }
}

fn set_fields(policy: &mut Value, fields: &[(&str, bool)]) {
    let Some(policy) = policy.as_object_mut().filter(|policy| policy.contains_key("redis")) else { return };
    for (name, value) in fields {
        policy.entry(*name).or_insert((*value).into());
    }
}

// === impl Request ===

impl Request {
    /// The first field of this name; all `cookie` fields joined, since a client may split them (RFC 9113, section
    /// 8.2.3).
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        let values = self.header_values(name);
        match name {
            "cookie" if !values.is_empty() => Some(values.join(b"; ".as_slice())),
            _ => values.into_iter().next(),
        }
    }

    /// Every field of this name, in order.
    pub fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.clone()).collect()
    }
}

// === impl Answer ===

impl Answer {
    /// All bytes of its body.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = |part: &AnswerPart| match part {
            AnswerPart::Bytes(bytes) => bytes.clone(),
            AnswerPart::Pause(_) => Vec::new(),
        };
        self.body.iter().flat_map(bytes).collect()
    }

    /// Whether its headers are all of it.
    pub fn is_bodiless(&self) -> bool {
        self.body.is_empty() && self.cut.is_none()
    }

    /// How long it takes, in milliseconds.
    pub fn pauses_ms(&self) -> u64 {
        let pause = |part: &AnswerPart| match part {
            AnswerPart::Bytes(_) => 0,
            AnswerPart::Pause(ms) => *ms,
        };
        self.body.iter().map(pause).sum()
    }
}

// === impl FieldValue ===

impl FieldValue {
    /// What the field is to hold in this repetition, from 0.
    pub fn text(&self, repetition: u64) -> String {
        match self {
            FieldValue::Text(text) | FieldValue::Begins(text) => text.clone(),
            FieldValue::DownFrom(number) => {
                number.checked_sub(repetition).map_or_else(|| "below 0".to_owned(), |left| left.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "about: a\nconfig: {rule_name: r}\n";

    fn refused(rest: &str) -> String {
        Case::read("area/name", &format!("{CONFIG}{rest}")).expect_err(rest)
    }

    #[test]
    fn a_case_is_read_with_its_defaults() {
        let yaml = "steps:\n- {at: 5, times: 3, every: 10, path: /p, headers: {X-A: [b, {hex: ff00}]}, pass: {headers: \
                    {X-B: {down_from: 2}}}}\n- {refuse: {}}\n";
        let case = Case::read("area/name", &format!("{CONFIG}{yaml}")).unwrap();
        assert_eq!((case.name.as_str(), case.config.as_slice()), ("area/name", br#"{"rule_name":"r"}"#.as_slice()));
        let [Step::Requests(first), Step::Requests(second)] = case.steps.as_slice() else { panic!("{case:?}") };
        assert_eq!((first.at_ms, first.times, first.every_ms, second.at_ms, second.times), (5, 3, 10, 25, 1));
        assert_eq!(first.request.header_values("x-a"), [b"b".to_vec(), vec![0xff, 0]]);
        let Expected::Pass { headers: Some(fields), .. } = &first.expected else { panic!("{:?}", first.expected) };
        assert_eq!(fields["x-b"].text(2), "0");
        assert!(matches!(&second.expected, Expected::Refuse { status: 429, headers: None, .. }));
        assert_eq!(second.request.host, b"example.com");
    }

    #[test]
    fn a_documented_configuration_stands_once_and_is_named() {
        let read = |config: &str| Case::read("area/name", &format!("about: a\n{config}steps: [{{pass: {{}}}}]"));
        let config = read("documented: header\n").unwrap().config;
        assert!(String::from_utf8(config).unwrap().contains(r#"{"key":102234,"query_per_minute":10}"#));
        assert_eq!(read("documented: headers\n").unwrap_err(), "`headers` is no documented configuration");
        for config in ["", "documented: header\nconfig: {}\n"] {
            assert_eq!(read(config).unwrap_err(), "expected one of `config` and `documented`");
        }
    }

    #[test]
    fn an_answer_is_read_with_its_pauses_and_its_end() {
        let step = "{times: 2, every: 10, body: [ab, {hex: ff}], answer: {body: [a, {pause: 500}, b], cut: client}, \
                    pass: {body: a}}";
        let case = Case::read("area/name", &format!("{CONFIG}steps: [{step}, {{pass: {{}}}}]")).unwrap();
        let [Step::Requests(first), Step::Requests(second)] = case.steps.as_slice() else { panic!("{case:?}") };
        assert_eq!(first.request.body, [b"ab".to_vec(), vec![0xff]]);
        let body = [AnswerPart::Bytes(b"a".to_vec()), AnswerPart::Pause(500), AnswerPart::Bytes(b"b".to_vec())];
        assert_eq!((first.answer.status, first.answer.body.as_slice()), (200, &body[..]));
        assert_eq!((first.answer.cut, first.answer.bytes()), (Some(Cut::Client), b"ab".to_vec()));
        assert_eq!(second.at_ms, 510, "the next request comes when the answer is over");
        assert!(second.answer.is_bodiless() && second.request.body.is_empty());
    }

    #[test]
    fn each_service_is_a_redis_and_a_step_may_be_about_one() {
        let config = "{_rules_: [{redis: {service_name: one}}, {rule_name: r}, {redis: {service_name: two}}], redis: \
                      {service_name: one}}";
        let steps = "[{store: down, of: two}, {calls: {one: 1, two: 0}, pass: {}}, {store: silent}]";
        let case = Case::read("area/name", &format!("about: a\nconfig: {config}\nsteps: {steps}")).unwrap();
        assert_eq!(case.services().into_iter().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(["one", "two"].map(|service| case.has_store(service, |store| *store == Store::Down)), [false, true]);
        assert_eq!(
            ["one", "two"].map(|service| case.has_store(service, |store| *store == Store::Silent)),
            [true, true]
        );
        let Step::Requests(requests) = &case.steps[1] else { panic!("{case:?}") };
        assert_eq!(requests.calls, Some(Calls::Of([("one".to_owned(), 1), ("two".to_owned(), 0)].into())));
    }

    #[test]
    fn fields_are_added_where_redis_counts_and_nothing_says_otherwise() {
        let with = |config: &str| {
            let case =
                Case::read("area/name", &format!("about: a\nconfig: {config}\nsteps: [{{pass: {{}}}}]")).unwrap();
            String::from_utf8(case.with_fields(&[("coalesce", false)]).config).unwrap()
        };
        assert_eq!(with("{rule_name: r}"), r#"{"rule_name":"r"}"#);
        assert_eq!(with("{redis: {}}"), r#"{"coalesce":false,"redis":{}}"#);
        assert_eq!(with("{coalesce: true, redis: {}}"), r#"{"coalesce":true,"redis":{}}"#);
        assert_eq!(with("{_rules_: [{redis: {}}]}"), r#"{"_rules_":[{"coalesce":false,"redis":{}}]}"#);
        let filters = with("{filters: [{redis: {}}, {_rules_: [{redis: {}}]}]}");
        assert_eq!(
            filters,
            r#"{"filters":[{"coalesce":false,"redis":{}},{"_rules_":[{"coalesce":false,"redis":{}}]}]}"#
        );
    }

    #[test]
    fn what_proves_nothing_or_says_what_nobody_reads_is_refused() {
        for (rest, reason) in [
            ("", "missing field `steps`"),
            ("steps: []", "no step"),
            ("steps: [{path: /}]", "expects nothing"),
            ("steps: [{pass: {}, refuse: {}}]", "expects both"),
            ("steps: [{store: up}]", "no request"),
            ("steps: [{store: up, at: 5}, {pass: {}}]", "stands beside"),
            ("steps: [{store: broken}, {pass: {}}]", "broken"),
            ("steps: [{pass: {}, tims: 3}]", "tims"),
            ("steps: [{pass: {}, times: 0}]", "times"),
            ("steps: [{pass: {header: {}}}]", "header"),
            ("steps: [{at: 5, pass: {}}, {at: 4, pass: {}}]", "runs backwards"),
            ("skip: {engine: ''}\nsteps: [{pass: {}}]", "says no reason"),
            ("steps: [{store: down, of: redis.static}, {pass: {}}]", "`redis.static` is no service"),
            ("steps: [{of: redis.static, pass: {}}]", "without `store`"),
            ("steps: [{calls: {redis.static: 1}, pass: {}}]", "`redis.static` is no service"),
            ("step: []\nsteps: [{pass: {}}]", "step"),
            ("steps: [{pass: {}, answer: {status: 99}}]", "99"),
            ("steps: [{pass: {}, answer: {body: [{paus: 1}]}}]", "did not match"),
            ("steps: [{pass: {}, answer: {cut: middle}}]", "middle"),
        ] {
            let message = refused(rest);
            assert!(message.contains(reason), "{rest}: {message}");
        }
    }
}
