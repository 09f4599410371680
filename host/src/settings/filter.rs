//! What a file has for the filter: `filter`, its document, or `filters`, an ordered list of the documents of several,
//! which it takes as they are.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use slidegate::{ConfigureError, Instance, Module, Moment, RedisService, StartError};
use slidegate_document::{Fields, Node, Reader};

use super::mistake::Mistake;

/// The field of the file with one filter, which may itself be a list.
const FILTER: &str = "filter";
/// The field of the file with several, which is that of such a list too.
const FILTERS: &str = "filters";

/// The configuration of the filter. It may be large: who keeps it shares it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilterConfig {
    /// As the filter takes it.
    document: Arc<Value>,
    /// The field of the file that it is from.
    field: &'static str,
}

impl FilterConfig {
    /// Only the outermost shape is the host's business. A list without filters is as good as none.
    pub(super) fn read(reader: &mut Reader, top: &Fields<'_>) -> Option<Self> {
        let filter = reader.field(top, FILTER, |reader, path, node| {
            reader.collected(
                path,
                node,
                "an object, the filter's configuration (a list of them is `filters`)",
                |node| is_object(node).then_some(node),
            )
        });
        let filters = reader.field(top, FILTERS, |reader, path, node| {
            reader.collected(path, node, "an array, the configurations of filters in their order", Node::elements)
        });
        match (filter, filters) {
            (Some(_), Some(_)) => {
                reader
                    .error(top.at(FILTERS), format_args!("expected only one of `{FILTER}` and `{FILTERS}`, got both"));
                None
            }
            (filter, filters) => Self::of(filter, filters),
        }
    }

    /// Of what stands in the two fields; the first counts.
    fn of(filter: Option<&Node>, filters: Option<&[Node]>) -> Option<Self> {
        let (document, field) = match (filter, filters) {
            (Some(filter), _) => (json!(filter), FILTER),
            (None, Some(filters)) if !filters.is_empty() => (json!({FILTERS: filters}), FILTERS),
            (None, _) => return None,
        };
        Some(Self { document: Arc::new(document), field })
    }

    /// The same where one Redis is given for every service that it names: if it names none, that is where all of it
    /// counts.
    pub(super) fn counting_in_redis(mut self) -> Self {
        name_redis(Arc::make_mut(&mut self.document));
        self
    }

    /// The same with all windows inside the filter, for whoever asks no Redis; and what that changes, in sentences.
    /// Responses and cookies that are kept in one are left out; none is left if that is all. Sessions in one stay, as
    /// limits behind them name their fields.
    pub(crate) fn counting_inside(mut self) -> (Option<Self>, Vec<String>) {
        let is_left_out = |filter: &Value| ["cookie_vault", "cache"].iter().any(|kept| filter.get(kept).is_some());
        let is_empty = |filter: &Value| filter.get("session").is_some_and(|session| !is_signed(session));
        let change = |(path, filter): (String, &Value)| match () {
            () if is_left_out(filter) => Some(format!("{path} is left out: it needs a Redis, and none is asked")),
            () if is_empty(filter) => Some(format!("{path} finds no session: no Redis is asked for one")),
            () => None,
        };
        let changes = self.each().into_iter().filter_map(change).collect();
        let is_rest = self.each().iter().any(|(_, filter)| !is_left_out(filter));
        let document = Arc::make_mut(&mut self.document);
        if let Some(filters) = document.get_mut(FILTERS).and_then(Value::as_array_mut) {
            filters.retain(|filter| !is_left_out(filter));
        }
        each_policy(document, &mut |policy| {
            if policy.contains_key("rule_name") {
                policy.remove(REDIS);
            }
        });
        (is_rest.then_some(self), changes)
    }

    /// Those of a file whose other parts cannot be read, which may have both fields. `counts_in_redis`: one Redis is
    /// given for every service.
    pub(super) fn all_of_rest(document: &Node, counts_in_redis: bool) -> Vec<Self> {
        let filter = Self::of(document.get(FILTER).filter(|node| is_object(node)), None);
        let filters = Self::of(None, document.get(FILTERS).and_then(Node::elements));
        let all = filter.into_iter().chain(filters);
        all.map(|one| if counts_in_redis { one.counting_in_redis() } else { one }).collect()
    }

    /// As the filter takes it.
    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// The field of the file that it is from.
    pub(super) fn field(&self) -> &'static str {
        self.field
    }

    /// What stands in that field.
    pub(super) fn written(&self) -> &Value {
        match self.document.get(FILTERS) {
            Some(filters) if self.is_list() => filters,
            _ => &self.document,
        }
    }

    /// Whether it is from the field with several.
    pub(crate) fn is_list(&self) -> bool {
        self.field == FILTERS
    }

    /// The document of each filter, with its path in the file.
    pub(super) fn each(&self) -> Vec<(String, &Value)> {
        match self.document.get(FILTERS).and_then(Value::as_array) {
            Some(filters) => filters
                .iter()
                .enumerate()
                .map(|(place, filter)| (self.path(&format!("{FILTERS}[{place}]")), filter))
                .collect(),
            None => vec![(self.path(""), &self.document)],
        }
    }

    /// The configurations that may say where they count, with their paths: of each filter the whole, the elements of
    /// its `_rules_`, and what it says of sessions, cookies and responses that it keeps.
    pub(super) fn policies(&self) -> Vec<(String, &Value)> {
        let mut policies = Vec::new();
        for (path, filter) in self.each() {
            let rules = filter.get("_rules_").and_then(Value::as_array).into_iter().flatten().enumerate();
            let rules = rules.map(|(index, rule)| (format!("{path}._rules_[{index}]"), rule));
            let kept = ["session", "cookie_vault", "cache"].into_iter();
            let kept = kept.filter_map(|field| Some((format!("{path}.{field}"), filter.get(field)?)));
            policies.extend(std::iter::once((path.clone(), filter)).chain(rules).chain(kept));
        }
        policies
    }

    /// The path of the `redis` that names this service first, and what stands there. One with this database, if there
    /// are several.
    pub(super) fn redis_of(&self, service: &RedisService) -> Option<(String, &Value)> {
        let all = self.policies().into_iter().filter_map(|(path, policy)| {
            let redis = policy.get(REDIS)?;
            (redis.get("service_name")?.as_str()? == service.service_name).then(|| (format!("{path}.{REDIS}"), redis))
        });
        let all: Vec<(String, &Value)> = all.collect();
        let database = |redis: &Value| redis.get("database").map_or(Some(0), Value::as_u64);
        let is_same = |redis: &Value| database(redis) == Some(service.database.into());
        let place = all.iter().position(|(_, redis)| is_same(redis)).unwrap_or_default();
        all.into_iter().nth(place)
    }

    /// The path of what keeps responses, if a filter does; and the document of a filter that does nothing else, for all
    /// requests alike: its keys lead to the same addresses in the same Redis.
    pub(crate) fn cache_alone(&self) -> Option<(String, Value)> {
        let (path, cache) = self.each().into_iter().find_map(|(path, filter)| Some((path, filter.get("cache")?)))?;
        let mut alone = json!({REDIS: cache.get(REDIS)?});
        if let Some(query) = cache.get("key").and_then(|key| key.get("query")) {
            alone["key"] = json!({"query": query});
        }
        Some((format!("{path}.cache"), json!({"cache": alone})))
    }

    /// An oddity that the filter tells of, with what it is about.
    pub(crate) fn told(&self, warning: &str) -> Mistake {
        let told = Mistake::of_sentence(warning);
        Mistake { path: self.path(&told.path), ..told }
    }

    /// Why a worker did not start, as mistakes of the file.
    pub(crate) fn mistakes_of(&self, error: StartError) -> Vec<Mistake> {
        match error {
            StartError::Configure(ConfigureError::Invalid(errors)) => {
                errors.into_iter().map(|error| Mistake::new(self.path(&error.path), error.message)).collect()
            }
            other => vec![Mistake::new(self.field, other.to_string())],
        }
    }

    /// The filter's mistakes, for a file whose other parts keep it from being started.
    pub(crate) fn mistakes(&self, module: &Module) -> Vec<Mistake> {
        let mistakes = tried(module, &self.document).err().unwrap_or_default();
        mistakes.into_iter().map(|mistake| Mistake { path: self.path(&mistake.path), ..mistake }).collect()
    }

    /// Where in the file is what stands at this path of the document: `rule_items[0]` is `filter.rule_items[0]`, and
    /// `filters[0]` is what it is.
    fn path(&self, path: &str) -> String {
        match path {
            "" => self.field.to_owned(),
            path if self.is_list() && path.starts_with(FILTERS) => path.to_owned(),
            path => format!("{}.{path}", self.field),
        }
    }
}

fn is_object(node: &Node) -> bool {
    node.members().is_some()
}

/// The field of a policy with the Redis that it counts in, and the name that it gets there if none says where it
/// counts.
const REDIS: &str = "redis";

/// Lets every policy count in a Redis, if none says where it counts. A file with one URL for all need not say so again.
fn name_redis(document: &mut Value) {
    let mut is_said = false;
    each_policy(document, &mut |policy| is_said |= policy.contains_key(REDIS));
    if !is_said {
        each_policy(document, &mut |policy| drop(policy.insert(REDIS.to_owned(), json!({"service_name": REDIS}))));
    }
}

/// The policies of a document, which are the objects that have a name: itself, the elements of its `_rules_`, those of
/// its filters; and what its filters say of sessions, cookies and responses that are kept in a Redis.
fn each_policy(document: &mut Value, act: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(fields) = document.as_object_mut() else { return };
    if fields.contains_key("rule_name") {
        act(fields);
    }
    let session = fields.get_mut("session").filter(|session| !is_signed(session));
    if let Some(session) = session.and_then(Value::as_object_mut) {
        act(session);
    }
    for kept in ["cookie_vault", "cache"] {
        if let Some(kept) = fields.get_mut(kept).and_then(Value::as_object_mut) {
            act(kept);
        }
    }
    for list in ["_rules_", FILTERS] {
        fields
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .for_each(|element| each_policy(element, act));
    }
}

/// Whether a session is all in its cookie, and not in a Redis.
fn is_signed(session: &Value) -> bool {
    session.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("signed-"))
}

/// What the filter makes of a configuration.
pub(crate) struct Tried {
    /// In words.
    pub(crate) described: String,
    /// What is odd, but no mistake.
    pub(crate) warnings: Vec<String>,
}

/// Gives the filter a configuration, to see what it says of it.
///
/// # Errors
/// Its mistakes, with paths as the filter has them.
pub(crate) fn tried(module: &Module, config: &Value) -> Result<Tried, Vec<Mistake>> {
    let trapped = |trap: slidegate::Trap| vec![Mistake::new("", trap.to_string())];
    let mut instance = Instance::new(module).map_err(trapped)?;
    let configuration =
        instance.configure(config.to_string().as_bytes(), Moment::default()).map_err(|error| match error {
            ConfigureError::Invalid(errors) => {
                errors.into_iter().map(|error| Mistake::new(error.path, error.message)).collect()
            }
            ConfigureError::Trap(trap) => trapped(trap),
        })?;
    let described = instance.describe().map_err(trapped)?;
    Ok(Tried { described, warnings: configuration.warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(mut document: Value) -> Value {
        name_redis(&mut document);
        document
    }

    #[test]
    fn a_filter_that_names_no_redis_counts_in_the_one_of_the_file() {
        let redis = json!({"service_name": "redis"});
        assert_eq!(named(json!({"rule_name": "a"})), json!({"rule_name": "a", "redis": redis}));
        assert_eq!(
            named(json!({"filters": [{"session": {"format": "php"}}, {"session": {"format": "signed-flask"}}]})),
            json!({"filters": [{"session": {"format": "php", "redis": redis}},
                {"session": {"format": "signed-flask"}}]})
        );
        assert_eq!(
            named(json!({"cookie_vault": {"cookies": "a"}})),
            json!({"cookie_vault": {"cookies": "a", "redis": redis}})
        );
        assert_eq!(named(json!({"cache": {}})), json!({"cache": {"redis": redis}}));
        assert_eq!(
            named(json!({"_rules_": [{"rule_name": "a"}]})),
            json!({"_rules_": [{"rule_name": "a", "redis": redis}]})
        );
        let filters = json!([{"rule_name": "a", "_rules_": [{"rule_name": "b"}]}, {"rule_name": "c"}]);
        let all = json!([{"rule_name": "a", "redis": redis, "_rules_": [{"rule_name": "b", "redis": redis}]},
            {"rule_name": "c", "redis": redis}]);
        assert_eq!(named(json!({"filters": filters})), json!({"filters": all}));
    }

    #[test]
    fn what_keeps_responses_is_found_with_what_its_addresses_depend_on() {
        let of = |document: Value| FilterConfig { document: Arc::new(document), field: FILTERS };
        let redis = json!({"service_name": "pages"});
        let cache = json!({"key": {"query": ["a"], "group": {"session": "user"}}, "max_ttl": "1d", "redis": redis});
        let list = of(json!({"filters": [{"rule_name": "a"}, {"cache": cache}]}));
        let alone = json!({"cache": {"key": {"query": ["a"]}, "redis": redis}});
        assert_eq!(list.cache_alone(), Some(("filters[1].cache".to_owned(), alone)));
        let plain = json!({"cache": {"redis": redis}});
        assert_eq!(of(plain.clone()).cache_alone().map(|(_, alone)| alone), Some(plain));
        assert_eq!(of(json!({"rule_name": "a"})).cache_alone(), None);
    }

    #[test]
    fn without_a_redis_limits_count_inside_and_what_is_kept_there_is_left_out() {
        let redis = json!({"service_name": "redis"});
        let of = |document: Value, field| FilterConfig { document: Arc::new(document), field }.counting_inside();
        let (limits, changes) =
            of(json!({"rule_name": "a", "redis": redis, "_rules_": [{"rule_name": "b", "redis": redis}]}), FILTER);
        let expected = json!({"rule_name": "a", "_rules_": [{"rule_name": "b"}]});
        assert_eq!((limits.map(|limits| limits.document), changes), (Some(Arc::new(expected)), Vec::new()));
        let signed = json!({"session": {"format": "signed-flask", "secret": "s"}});
        let kept = json!({"session": {"format": "php", "redis": redis}});
        let list = json!({"filters": [{"cache": {"redis": redis}}, signed, {"rule_name": "c", "redis": redis}, kept]});
        let (limits, changes) = of(list, FILTERS);
        let expected = json!({"filters": [signed, {"rule_name": "c"}, kept]});
        assert_eq!(limits.map(|limits| limits.document), Some(Arc::new(expected)));
        assert_eq!(
            changes,
            [
                "filters[0] is left out: it needs a Redis, and none is asked",
                "filters[3] finds no session: no Redis is asked for one"
            ]
        );
        assert_eq!(of(json!({"cookie_vault": {"cookies": "a"}}), FILTER).0, None);
    }

    #[test]
    fn where_one_policy_says_where_it_counts_nothing_is_added() {
        for filter in [
            json!({"rule_name": "a", "_rules_": [{"rule_name": "b", "redis": {}}]}),
            json!({"rule_name": "a", "redis": null}),
        ] {
            assert_eq!(named(filter.clone()), filter);
        }
    }
}
