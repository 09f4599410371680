//! A file of tests, as it is written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, StatusCode, Uri};
use serde_json::{Value, json};
use slidegate_document::table::{limit_tests, names};
use slidegate_document::{Fields, Node, Path as FieldPath, Reader, TimeSpan, Vocabulary};

use crate::gateway::{RehearsedRequest, RehearsedUpstream, RouteNames};
use crate::settings::document::{placed, text, unreadable};
use crate::settings::yaml::{self, Schema};
use crate::settings::{Mistake, json as json_text};

/// Where requests come from that say nothing of it: an address for documentation.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// A port that some client might have.
const CLIENT_PORT: u16 = 49_152;
/// The host of requests that name none.
const HOST: HeaderValue = HeaderValue::from_static("localhost");
/// The latest time of a test.
const AT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

const TOP: [&str; 3] = names(&limit_tests::TOP);
const TEST: [&str; 2] = names(&limit_tests::TEST_FIELDS);
const STEP: [&str; 11] = names(&limit_tests::STEP_FIELDS);
const ANSWER: [&str; 3] = names(&limit_tests::ANSWER_FIELDS);
const EXPECTATION: [&str; 5] = names(&limit_tests::EXPECTATION_FIELDS);

static VOCABULARY: Vocabulary = Vocabulary::new(&[
    (&TOP, "at the top"),
    (&TEST, "in an element of `tests`"),
    (&STEP, "in an element of `steps`"),
    (&ANSWER, "in `answer`"),
    (&EXPECTATION, "in `expect`"),
]);

/// A file of tests.
pub(super) struct TestsFile {
    text: String,
    tree: Node,
}

/// What a file of tests says.
pub(super) struct WrittenTests {
    pub(super) limits: LimitsSource,
    pub(super) tests: Vec<LimitTest>,
}

/// Where the limits are that are tested.
pub(super) enum LimitsSource {
    /// As the tests name it.
    File(PathBuf),
    /// They stand among the tests.
    Filter(Value),
}

/// One test.
pub(super) struct LimitTest {
    pub(super) name: String,
    pub(super) steps: Vec<TestStep>,
}

/// Requests that are alike, one after the other.
pub(super) struct TestStep {
    /// Its path in the file.
    pub(super) path: String,
    /// Since the beginning of the test.
    pub(super) at: Duration,
    pub(super) times: u32,
    pub(super) every: Duration,
    pub(super) answer: RehearsedUpstream,
    pub(super) expected: Expected,
    request: WrittenRequest,
}

/// What must become of the requests of a step.
#[derive(Default)]
pub(super) struct Expected {
    /// How many pass.
    pub(super) passing: Option<u32>,
    /// The status of the last answer.
    pub(super) status: Option<u16>,
    /// Header fields of the last answer; without a value there is none of this name.
    pub(super) headers: Vec<(HeaderName, Option<String>)>,
    /// Who refuses the last request.
    pub(super) by: Option<String>,
}

struct WrittenRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    client: SocketAddr,
    body: Bytes,
    names: Option<RouteNames>,
}

impl TestsFile {
    /// Of the bytes of a file.
    ///
    /// # Errors
    /// They are no document.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Mistake> {
        let text = text(bytes)?;
        let tree = match json_text::read(text) {
            Ok(document) => document,
            Err(_) => {
                let mut documents = yaml::read(text, Schema::AsWritten).map_err(|error| unreadable(text, error))?;
                if documents.len() > 1 {
                    let message = format!("expected one document, got {}", documents.len());
                    return Err(Mistake::new("", message));
                }
                documents.pop().unwrap_or_default()
            }
        };
        Ok(Self { text: text.to_owned(), tree })
    }

    /// Mistakes with their places, in the order of these.
    pub(super) fn placed(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        placed(&self.text, &[&self.tree], &self.tree, mistakes)
    }

    /// What it says.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(super) fn read(&self) -> Result<WrittenTests, Vec<Mistake>> {
        let mut reader = Reader::new(&VOCABULARY);
        let written = read_top(&mut reader, &self.tree);
        match (reader.finish(), written) {
            (Ok(_), Some(written)) => Ok(written),
            (errors, _) => Err(self.placed(errors.err().into_iter().flatten().map(Mistake::from).collect())),
        }
    }
}

impl TestStep {
    /// When its last request comes.
    pub(super) fn end(&self) -> Duration {
        self.every.saturating_mul(self.times - 1).saturating_add(self.at)
    }

    /// Its request, anew.
    pub(super) fn request(&self) -> RehearsedRequest {
        let written = &self.request;
        let (mut parts, ()): (Parts, ()) = Request::new(()).into_parts();
        parts.method.clone_from(&written.method);
        parts.uri.clone_from(&written.uri);
        parts.headers.clone_from(&written.headers);
        RehearsedRequest {
            parts,
            client: written.client,
            is_secure: written.uri.scheme() == Some(&Scheme::HTTPS),
            body: written.body.clone(),
            names: written.names.clone(),
        }
    }

    /// The path of what it says of its route, if it does.
    pub(super) fn place_of_names(&self) -> Option<String> {
        let names = self.request.names.as_ref()?;
        Some(format!("{}.{}", self.path, if names.route.is_empty() { "service" } else { "route" }))
    }

    /// What it sends, for people.
    pub(super) fn shown(&self) -> String {
        let WrittenRequest { method, uri, client, .. } = &self.request;
        format!("at {}, {method} {uri} from {}", span(self.at), client.ip())
    }
}

/// A length of time as it would be written.
fn span(duration: Duration) -> TimeSpan {
    TimeSpan(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn read_top(reader: &mut Reader, tree: &Node) -> Option<WrittenTests> {
    let top = reader.object(FieldPath::Root, tree, &TOP)?;
    let file = reader.field(&top, "file", Reader::text);
    let filter = top.get_unless_null("filter").map(|(_, filter)| json!(filter));
    let limits = match (file, filter) {
        (Some(file), None) => Some(LimitsSource::File(PathBuf::from(file))),
        (None, Some(filter)) => Some(LimitsSource::Filter(filter)),
        (Some(_), Some(_)) => {
            reader.error(top.at("filter"), "expected only one of `file` and `filter`, got both");
            None
        }
        (None, None) => {
            reader.error(top.at("file"), "is missing: expected the file with the limits, or `filter`");
            None
        }
    };
    let tests = read_list(reader, &top, "tests", "an array with at least one test", read_test);
    Some(WrittenTests { limits: limits?, tests })
}

/// The elements of a field that must have some.
fn read_list<T>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &str,
    what: &str,
    mut read: impl FnMut(&mut Reader, FieldPath<'_>, &Node) -> Option<T>,
) -> Vec<T> {
    let Some((path, node)) = fields.get_unless_null(name) else {
        reader.error(fields.at(name), format_args!("is missing: expected {what}"));
        return Vec::new();
    };
    let list = reader.collected(path, node, what, |node| node.elements().filter(|list| !list.is_empty()));
    let elements = list.into_iter().flatten().enumerate();
    elements.filter_map(|(index, node)| read(reader, FieldPath::Element(&path, index), node)).collect()
}

fn read_test(reader: &mut Reader, path: FieldPath<'_>, node: &Node) -> Option<LimitTest> {
    let test = reader.object(path, node, &TEST)?;
    let name = required(reader, &test, "name", "what the test is called", Reader::text);
    let mut earliest = Duration::ZERO;
    let steps = read_list(reader, &test, "steps", "an array with at least one step", |reader, path, node| {
        let step = read_step(reader, path, node, earliest)?;
        earliest = step.end();
        Some(step)
    });
    Some(LimitTest { name: name?, steps })
}

/// A field that must be there.
fn required<'f, T>(
    reader: &mut Reader,
    fields: &'f Fields<'_>,
    name: &'f str,
    what: &str,
    read: impl FnOnce(&mut Reader, FieldPath<'_>, &Node) -> Option<T>,
) -> Option<T> {
    let Some((path, node)) = fields.get_unless_null(name) else {
        reader.error(fields.at(name), format_args!("is missing: expected {what}"));
        return None;
    };
    read(reader, path, node)
}

fn read_step(reader: &mut Reader, path: FieldPath<'_>, node: &Node, earliest: Duration) -> Option<TestStep> {
    let step = reader.object(path, node, &STEP)?;
    let at = duration(reader, &step, "at").unwrap_or(earliest);
    if at < earliest {
        let message = format!("expected no time before `{}`, when the step before ends", span(earliest));
        reader.error(step.at("at"), message);
    }
    let times = whole(reader, &step, "times", 1, 1_000_000).unwrap_or(1);
    let every = duration(reader, &step, "every").unwrap_or_default();
    let answer = reader.field(&step, "answer", read_answer).unwrap_or_default();
    let expected = reader
        .field(&step, "expect", |reader, path, node| read_expected(reader, path, node, times))
        .unwrap_or_default();
    let request = read_request(reader, &step);
    Some(TestStep { path: path.to_string(), at, times, every, answer, expected, request: request? })
}

fn duration(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<Duration> {
    let longest = u64::try_from(AT_MAX.as_micros()).unwrap_or(u64::MAX);
    reader.field(fields, name, |reader, path, node| reader.duration_us(path, node, longest)).map(Duration::from_micros)
}

fn whole(reader: &mut Reader, fields: &Fields<'_>, name: &str, least: u32, greatest: u32) -> Option<u32> {
    let range = u64::from(least)..=u64::from(greatest);
    let number = reader.field(fields, name, |reader, path, node| reader.whole(path, node, range))?;
    u32::try_from(number).ok()
}

fn read_request(reader: &mut Reader, step: &Fields<'_>) -> Option<WrittenRequest> {
    const FORM: &str = "a method and a path or URL, such as `GET /orders`";
    let line = required(reader, step, "request", FORM, |reader, path, node| {
        reader.parsed(path, node, FORM, |node| {
            let (method, target) = node.as_str()?.split_once(' ')?;
            let uri: Uri = target.parse().ok()?;
            let is_target = uri.path().starts_with('/') || uri.path() == "*";
            Some((Method::from_bytes(method.as_bytes()).ok()?, uri)).filter(|_| is_target)
        })
    });
    let mut headers = reader.field(step, "headers", read_headers).unwrap_or_default();
    let client = reader.field(step, "from", |reader, path, node| {
        reader.parsed(path, node, "an address such as `192.0.2.1`", |node| {
            let text = node.as_str()?;
            let address = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, CLIENT_PORT));
            address.or_else(|| text.parse().ok())
        })
    });
    let body = reader.field(step, "body", Reader::text).unwrap_or_default();
    let names = ["route", "service"].map(|name| reader.field(step, name, Reader::text));
    let names = names.iter().any(Option::is_some).then(|| {
        let [route, service] = names.map(Option::unwrap_or_default);
        RouteNames { route, service }
    });
    let (method, uri) = line?;
    if uri.authority().is_none() && !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HOST);
    }
    let client = client.unwrap_or(SocketAddr::new(CLIENT, CLIENT_PORT));
    Some(WrittenRequest { method, uri, headers, client, body: body.into(), names })
}

/// The names and values of an object of header fields.
fn fields_of<T>(
    reader: &mut Reader,
    path: FieldPath<'_>,
    node: &Node,
    mut read: impl FnMut(&mut Reader, FieldPath<'_>, &Node) -> Option<T>,
) -> Option<Vec<(HeaderName, T)>> {
    let members = reader.collected(path, node, "an object of header fields", Node::members)?;
    let mut fields = Vec::new();
    for member in members {
        let at = FieldPath::Field(&path, &member.name);
        match HeaderName::from_bytes(member.name.as_bytes()) {
            Ok(name) => fields.extend(read(reader, at, &member.value).map(|value| (name, value))),
            Err(_) => reader.error(at, "expected the name of a header field"),
        }
    }
    Some(fields)
}

fn read_headers(reader: &mut Reader, path: FieldPath<'_>, node: &Node) -> Option<HeaderMap> {
    let value = |reader: &mut Reader, path: FieldPath<'_>, node: &Node| {
        let text = reader.text(path, node)?;
        let value = HeaderValue::from_str(&text).ok();
        if value.is_none() {
            reader.expected(path, node, "a value without line breaks");
        }
        value
    };
    Some(fields_of(reader, path, node, value)?.into_iter().collect())
}

fn read_answer(reader: &mut Reader, path: FieldPath<'_>, node: &Node) -> Option<RehearsedUpstream> {
    let answer = reader.object(path, node, &ANSWER)?;
    let status = status(reader, &answer).unwrap_or(StatusCode::OK);
    let headers = reader.field(&answer, "headers", read_headers).unwrap_or_default();
    let body = reader.field(&answer, "body", Reader::text).unwrap_or_default();
    Some(RehearsedUpstream { status, headers, body: body.into() })
}

fn status(reader: &mut Reader, fields: &Fields<'_>) -> Option<StatusCode> {
    let status = whole(reader, fields, "status", 200, 599)?;
    StatusCode::from_u16(u16::try_from(status).ok()?).ok()
}

/// What is expected of so many requests.
fn read_expected(reader: &mut Reader, path: FieldPath<'_>, node: &Node, times: u32) -> Option<Expected> {
    if node.members().is_none() {
        let passing = reader.parsed(path, node, "`pass`, `refused` or an object", |node| match node.as_str()? {
            "pass" => Some(times),
            "refused" => Some(0),
            _ => None,
        })?;
        return Some(Expected { passing: Some(passing), ..Expected::default() });
    }
    let fields = reader.object(path, node, &EXPECTATION)?;
    let passing = whole(reader, &fields, "pass", 0, times);
    let refused = whole(reader, &fields, "refused", 0, times);
    if passing.is_some() && refused.is_some() {
        reader.error(fields.at("refused"), "expected only one of `pass` and `refused`: the others are the other");
    }
    if fields.names().next().is_none() {
        reader.error(path, "expected at least one field, got none");
    }
    let value = |reader: &mut Reader, path: FieldPath<'_>, node: &Node| match node.is_null() {
        true => Some(None),
        false => reader.text(path, node).map(Some),
    };
    Some(Expected {
        passing: passing.or_else(|| Some(times - refused?)),
        status: status(reader, &fields).map(|status| status.as_u16()),
        headers: reader
            .field(&fields, "headers", |reader, path, node| fields_of(reader, path, node, value))
            .unwrap_or_default(),
        by: reader.field(&fields, "by", Reader::text),
    })
}

impl LimitsSource {
    /// The file that is meant, if it is one, as seen from a folder.
    pub(super) fn file(&self, folder: &Path) -> Option<PathBuf> {
        match self {
            Self::File(file) => Some(folder.join(file)),
            Self::Filter(_) => None,
        }
    }
}
