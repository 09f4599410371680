//! What the filters of a configuration have to do with a request, told without deciding on it.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

pub use crate::filter_kind::FilterKind;
use crate::{
    cache::CacheRules,
    cache_filter::{self, ExplainedCache},
    config::{Config, FilterRules, counted_by},
    cookie_vault::without_kept,
    edited::Edited,
    local::LocalWindows,
    plan::{Plan, Planned, Prefixes, SparePlans},
    redis::{CallError, Command, Reply},
    request::RequestView,
    rule::{GLOBAL, Policy, Ruleset, hits::ItemOutcome},
    session::SessionRules,
    session_filter::{ExplainedSession, explained},
    verdict::HeaderEdit,
    window::{Charge, EXACT_MAX, Retry, Standing, Window, stored},
};

/// What all filters have to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In their order.
    pub filters: Vec<FilterMet>,
    /// What else to ask Redis so that more can be said, and of which service. Nothing if all is known.
    pub questions: Vec<(u32, Command)>,
}

/// What one filter has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterMet {
    /// Where it stands in the configuration. Empty: it is all of it.
    pub path: String,
    /// What it is.
    pub kind: FilterKind,
    /// Where its policy for the request stands; empty for that of the whole filter.
    pub policy: Option<String>,
    /// `rule_name`.
    pub name: String,
    /// What would become of the request.
    pub would: Would,
    /// Why, in a sentence.
    pub reason: String,
    /// In the order in which they are asked.
    pub rules: Vec<RuleMet>,
}

/// What would become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Would {
    /// It would pass.
    Pass,
    /// It would be answered.
    Respond,
    /// That depends on what the questions tell.
    Depend,
}

/// A rule of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMet {
    /// Where it stands.
    pub path: String,
    /// What it counts by, in words.
    pub about: String,
    /// What it has to do with the request.
    pub outcome: RuleOutcome,
    /// What it charges.
    pub limits: Vec<LimitMet>,
}

/// What a rule has to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It applies, by the entry at this path.
    Applies(String),
    /// It does not, for this reason.
    Skipped(String),
    /// It frees the request, for this reason.
    Frees(String),
    /// It refuses the request without counting, for this reason.
    Refuses(String),
}

/// A limit that the request is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitMet {
    /// What is charged.
    pub charge: Charge,
    /// Which Redis counts. None: the instance.
    pub service: Option<u32>,
    /// The key that counts.
    pub key: Vec<u8>,
    /// How it stands, where that is known.
    pub standing: Option<Standing>,
}

const NO_ROOM: &str = "a limit has no room for it";
const ROOM: &str = "every limit has room for it";
const OF_SESSION: &str = "that depends on whose session it is, which Redis knows";
const ANSWERED: &str = "it does not come so far";
const VAULT: &str = "it passes, with the values of cookies that are kept; to filters behind, these are left out here";
const UNKNOWN: &str = "Redis knows whether there is room for it";

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) monotonic_ns: u64,
    /// Since 1970; 0 for nobody knows.
    pub(crate) wall_ns: u64,
}

/// What the filters of this configuration have to do with a request. `replies` are what Redis said to all questions so
/// far.
pub(crate) fn of(
    config: &Config,
    windows: &LocalWindows,
    request: &dyn RequestView,
    replies: &[Result<Reply, CallError>],
    now: Now,
) -> Explanation {
    let now_us = now.monotonic_ns / 1_000;
    let mut state = WindowLookup { windows, now_us, replies: replies.iter(), questions: Vec::new() };
    // As the filters before change it. Not as its client claims: what a session tells stands there or nothing does.
    let (mut edits, mut filters) = (Vec::new(), Vec::new());
    // Why filters further on say nothing of it.
    let mut silence = None;
    for (at, rules) in config.filters.iter().enumerate() {
        let path = if config.is_list { format!("filters[{at}]") } else { String::new() };
        let request = Edited { request: &request, edits: &edits };
        let (met, more) = match (rules, silence) {
            (rules, Some((would, reason))) => (plain(path, rules.kind(), would, reason), Vec::new()),
            (FilterRules::Limiter(ruleset), None) => (filter(path, ruleset, &request, &mut state), Vec::new()),
            (FilterRules::Session(rules), None) => {
                let (met, more) = session(path, rules, &request, &mut state, now.wall_ns);
                silence = match met.would {
                    Would::Depend => Some((Would::Depend, OF_SESSION)),
                    Would::Respond => Some((Would::Pass, ANSWERED)),
                    Would::Pass => None,
                };
                (met, more)
            }
            // What it puts back is not asked for: of that nobody else makes a limit.
            (FilterRules::Vault(rules), None) => {
                (plain(path, FilterKind::CookieVault, Would::Pass, VAULT), without_kept(rules, &request))
            }
            (FilterRules::Cache(rules), None) => {
                let met = cache(path, rules, &request, &mut state, now.wall_ns);
                silence = (met.would == Would::Respond).then_some((Would::Pass, ANSWERED));
                (met, Vec::new())
            }
        };
        edits.extend(more);
        filters.push(met);
    }
    Explanation { filters, questions: state.questions.into_iter().skip(replies.len()).collect() }
}

/// What a filter says that has no rules for the request.
fn plain(path: String, kind: FilterKind, would: Would, reason: &str) -> FilterMet {
    let (policy, name, rules) = (None, String::new(), Vec::new());
    FilterMet { path, kind, policy, name, would, reason: reason.to_string(), rules }
}

/// What a session does to a request, and what it changes in its headers.
fn session(
    path: String,
    rules: &Rc<SessionRules>,
    request: &impl RequestView,
    state: &mut WindowLookup<'_>,
    wall_ns: u64,
) -> (FilterMet, Vec<HeaderEdit>) {
    let mut ask = |service, question| {
        state.questions.push((service, question));
        state.replies.next().cloned()
    };
    let ExplainedSession { edits, is_known, is_refused, reason } = explained(rules, request, wall_ns, &mut ask);
    let would = match (is_known, is_refused) {
        (false, _) => Would::Depend,
        (true, true) => Would::Respond,
        (true, false) => Would::Pass,
    };
    (plain(path, FilterKind::Session, would, &reason), edits)
}

/// What is stored for a request. As long as that is not known, filters behind are told of as if nothing were.
fn cache(
    path: String,
    rules: &CacheRules,
    request: &impl RequestView,
    state: &mut WindowLookup<'_>,
    wall_ns: u64,
) -> FilterMet {
    let mut ask = |service, question| {
        state.questions.push((service, question));
        state.replies.next().cloned()
    };
    let ExplainedCache { is_answered, reason } = cache_filter::explained(rules, request, wall_ns, &mut ask);
    let would = match is_answered {
        None => Would::Depend,
        Some(true) => Would::Respond,
        Some(false) => Would::Pass,
    };
    plain(path, FilterKind::Cache, would, &reason)
}

/// What is known of windows.
struct WindowLookup<'a> {
    windows: &'a LocalWindows,
    now_us: u64,
    replies: core::slice::Iter<'a, Result<Reply, CallError>>,
    questions: Vec<(u32, Command)>,
}

impl WindowLookup<'_> {
    /// How each limit of a plan stands, before it is charged.
    fn standings(&mut self, service: Option<u32>, plan: &Plan) -> Vec<Option<Standing>> {
        let limits = || plan.keys.iter().zip(&plan.charges);
        let Some(service) = service else {
            let untouched = Window::default();
            let window = |key: &Vec<u8>| self.windows.window(key).unwrap_or(&untouched);
            return limits().map(|(key, charge)| Some(window(key).assess(charge, self.now_us).standing)).collect();
        };
        self.questions.extend(stored::questions(&plan.keys).into_iter().map(|question| (service, question)));
        let mut reply = || self.replies.next().and_then(|reply| reply.as_ref().ok());
        let clock_us = reply().and_then(stored::clock_us);
        limits()
            .map(|(_, charge)| {
                let window = reply().and_then(|reply| stored::window(reply, charge));
                Some(window?.assess(charge, clock_us?).standing)
            })
            .collect()
    }
}

fn filter(path: String, ruleset: &Rc<Ruleset>, request: &impl RequestView, state: &mut WindowLookup<'_>) -> FilterMet {
    let Some((position, policy)) = ruleset.policy_for(request) else {
        return plain(path, FilterKind::Limiter, Would::Pass, "no policy is for it");
    };
    let is_scoped = position < ruleset.scoped.len();
    let of_policy = if is_scoped { joined(&path, &format!("_rules_[{position}]")) } else { path.clone() };
    let mut rules = rules(&of_policy, policy, request);
    let (would, reason) = match Planned::new(policy, &Prefixes::of(policy), request, &mut SparePlans::default()) {
        Planned::Exempt => (Would::Pass, "it is exempt"),
        Planned::Unlimited { .. } => (Would::Pass, "no limit is for it"),
        Planned::Refused { .. } => (Would::Respond, "a rule refuses it for what it lacks or has too often"),
        Planned::Charged(plan) => charged(&of_policy, policy, &plan, state, &mut rules),
    };
    FilterMet {
        path,
        kind: FilterKind::Limiter,
        policy: Some(of_policy),
        name: policy.rule_name.clone(),
        would,
        reason: reason.to_string(),
        rules,
    }
}

/// Adds limits to the rules that they are of, and tells whether they have room.
fn charged(
    path: &str,
    policy: &Policy,
    plan: &Plan,
    state: &mut WindowLookup<'_>,
    rules: &mut Vec<RuleMet>,
) -> (Would, &'static str) {
    let standings = state.standings(policy.redis, plan);
    if plan.owners.contains(&GLOBAL) {
        let path = joined(path, "global_threshold");
        let outcome = RuleOutcome::Applies(path.clone());
        rules.insert(0, RuleMet { path, about: "all requests together".to_string(), outcome, limits: Vec::new() });
    }
    let first = usize::from(!plan.owners.contains(&GLOBAL));
    for (at, owner) in plan.owners.iter().enumerate() {
        let limit = plan.keys.get(at).zip(plan.charges.get(at)).zip(standings.get(at));
        if let (Some(((key, charge), standing)), Some(rule)) =
            (limit, owner.checked_sub(first).and_then(|at| rules.get_mut(at)))
        {
            rule.limits.push(LimitMet {
                charge: *charge,
                service: policy.redis,
                key: key.clone(),
                standing: *standing,
            });
        }
    }
    let enforced =
        || plan.charges.iter().zip(&standings).filter(|(charge, _)| charge.enforced).map(|(_, standing)| standing);
    if enforced().any(|standing| standing.is_some_and(|standing| standing.retry != Retry::Fits)) {
        (Would::Respond, NO_ROOM)
    } else if enforced().any(Option::is_none) {
        (Would::Depend, UNKNOWN)
    } else {
        (Would::Pass, ROOM)
    }
}

fn rules(path: &str, policy: &Policy, request: &impl RequestView) -> Vec<RuleMet> {
    let outcomes = policy.outcomes(request);
    let rule = |(at, (item, outcome)): (usize, (_, ItemOutcome))| {
        let path = joined(path, &format!("rule_items[{at}]"));
        let entries = |entries: &[usize]| {
            let paths: Vec<String> = entries.iter().map(|entry| format!("{path}.limit_keys[{entry}]")).collect();
            paths.join(", ")
        };
        let outcome = match outcome {
            ItemOutcome::Applies(of) => RuleOutcome::Applies(entries(&of)),
            ItemOutcome::Skipped(reason) => RuleOutcome::Skipped(reason.to_string()),
            ItemOutcome::Frees => RuleOutcome::Frees("its value is unlimited".to_string()),
            ItemOutcome::Refuses => RuleOutcome::Refuses("it lacks a value, or has several".to_string()),
        };
        RuleMet { path, about: counted_by(item), outcome, limits: Vec::new() }
    };
    policy.items.iter().map(|item| &item.limit_by).zip(outcomes).enumerate().map(rule).collect()
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_string() } else { format!("{path}.{field}") }
}

// === impl LimitMet ===

impl LimitMet {
    /// How much of it is in use, what is left, and after how many microseconds the request fits; the greatest number:
    /// never.
    pub fn state(&self) -> Option<(u64, u64, u64)> {
        let standing = self.standing?;
        let wait_us = match standing.retry {
            Retry::Fits => 0,
            Retry::After(us) => us,
            Retry::Never => u64::MAX,
        };
        Some((self.charge.limit.min(EXACT_MAX).saturating_sub(standing.remaining), standing.remaining, wait_us))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use serde_json::{Value, json};

    use super::*;
    use crate::{Engine, Step, rule::samples::Sample};

    fn engine(document: &Value) -> Engine {
        Engine::configure(document.to_string().as_bytes()).expect("the configuration is good")
    }

    fn with(header: &'static str, value: &str) -> Sample {
        Sample { headers: vec![(header, value.into())], ..Sample::default() }
    }

    /// The only filter, of a configuration in memory.
    fn met(engine: &Engine, request: &Sample) -> FilterMet {
        let mut explanation = engine.explain(request, &[], 0);
        assert!(explanation.questions.is_empty() && explanation.filters.len() == 1);
        explanation.filters.remove(0)
    }

    fn item(header: &str, key: &str, rest: &Value) -> Value {
        let mut entry = json!({"key": key});
        rest.as_object().into_iter().flatten().for_each(|(name, value)| entry[name] = value.clone());
        json!({"limit_by_per_header": header, "limit_keys": [{"key": "other", "query_per_day": 1}, entry]})
    }

    #[test]
    fn each_rule_says_what_it_has_to_do_with_a_request() {
        let document = json!({"rule_name": "r", "rule_items": [
            item("a", "x", &json!({"query_per_minute": 2})),
            item("b", "free", &json!({"unlimited": true})),
            item("c", "*", &json!({"query_per_minute": 2, "query_per_hour": 9})),
        ]});
        let mut engine = engine(&document);
        let request = Sample { headers: vec![("a", b"y".to_vec()), ("c", b"z".to_vec())], ..Sample::default() };
        let FilterMet { path, policy, name, would, rules, .. } = met(&engine, &request);
        assert_eq!((path.as_str(), policy.as_deref(), name.as_str(), would), ("", Some(""), "r", Would::Pass));
        assert_eq!(rules[0].outcome, RuleOutcome::Skipped("none of its keys is for the request's value".into()));
        assert_eq!(rules[1].outcome, RuleOutcome::Skipped("the request has no value for it".into()));
        assert_eq!(rules[2].outcome, RuleOutcome::Applies("rule_items[2].limit_keys[1]".into()));
        assert_eq!(
            (rules[2].path.as_str(), rules[2].about.as_str()),
            ("rule_items[2]", "header c (limit_by_per_header)")
        );
        assert_eq!(rules[2].limits.iter().map(LimitMet::state).collect::<Vec<_>>(), [Some((0, 2, 0)), Some((0, 9, 0))]);

        // Nothing was counted by that; what is, it tells of.
        for (used, passes) in [(1, true), (2, true), (2, false)] {
            assert_eq!(matches!(engine.on_request(1, &request, 0), Step::Pass(_)), passes);
            assert_eq!(met(&engine, &request).rules[2].limits[0].state().expect("it is known").0, used);
        }
        let full = met(&engine, &request);
        assert_eq!((full.would, full.reason.as_str()), (Would::Respond, NO_ROOM));
        assert_eq!(full.rules[2].limits[0].state(), Some((2, 0, 60_000_001)));

        let free =
            met(&engine, &Sample { headers: vec![("b", b"free".to_vec()), ("c", b"z".to_vec())], ..Sample::default() });
        assert_eq!(free.would, Would::Pass);
        assert!(matches!(free.rules[1].outcome, RuleOutcome::Frees(_)));
        assert_eq!(free.rules[2].outcome, RuleOutcome::Skipped("a rule before it decides".into()));
    }

    #[test]
    fn policies_are_named_by_where_they_stand() {
        let threshold = json!({"query_per_day": 1});
        let scoped = |host: &str| json!({"_match_domain_": [host], "rule_name": host, "global_threshold": threshold});
        let filters = json!({"filters": [
            {"rule_name": "first", "global_threshold": threshold, "exempt": {"headers": {"probe": "*"}}},
            {"_rules_": [scoped("a"), scoped("b")]},
        ]});
        let engine = engine(&filters);
        let at = |host: &'static str| Sample { authority: Some(host.into()), ..Sample::default() };
        let policies = |request: &Sample| -> Vec<_> {
            engine
                .explain(request, &[], 0)
                .filters
                .into_iter()
                .map(|filter| (filter.policy, filter.name, filter.would))
                .collect()
        };
        let first = || (Some("filters[0]".to_string()), "first".to_string(), Would::Pass);
        assert_eq!(policies(&at("b")), [first(), (Some("filters[1]._rules_[1]".into()), "b".into(), Would::Pass)]);
        assert_eq!(policies(&at("c")), [first(), (None, String::new(), Would::Pass)]);
        let probe = Sample { headers: vec![("probe", b"1".to_vec())], ..at("a") };
        assert_eq!(engine.explain(&probe, &[], 0).filters[0].reason, "it is exempt");
        let threshold = &engine.explain(&at("a"), &[], 0).filters[1].rules[0];
        assert_eq!((threshold.path.as_str(), threshold.limits.len()), ("filters[1]._rules_[0].global_threshold", 1));
    }

    #[test]
    fn what_refuses_without_counting_is_told_and_what_only_tries() {
        let refusing = |dry_run: bool| {
            let mut item = item("a", "*", &json!({"query_per_day": 1}));
            (item["on_missing"], item["dry_run"]) = (json!("refuse"), json!(dry_run));
            engine(&json!({"rule_name": "r", "rule_items": [item]}))
        };
        let refused = met(&refusing(false), &Sample::default());
        assert!(refused.would == Would::Respond && matches!(refused.rules[0].outcome, RuleOutcome::Refuses(_)));
        let tried = met(&refusing(true), &Sample::default());
        assert!(
            tried.would == Would::Pass
                && matches!(&tried.rules[0].outcome, RuleOutcome::Skipped(reason) if reason.contains("tries"))
        );
    }

    #[test]
    fn redis_is_asked_and_believed_as_far_as_it_answers() {
        let document = json!({
            "rule_name": "r", "global_threshold": {"query_per_minute": 3}, "redis": {"service_name": "x.static"},
            "rule_items": [item("a", "*", &json!({"query_per_minute": 2}))],
        });
        let (engine, request) = (engine(&document), with("a", "v"));
        let unknown = engine.explain(&request, &[], 0);
        assert_eq!(unknown.filters[0].would, Would::Depend);
        let names: Vec<_> =
            unknown.questions.iter().map(|(service, command)| (*service, command.words().next().unwrap())).collect();
        assert_eq!(names, [(0, b"TIME".as_slice()), (0, b"ZRANGE"), (0, b"ZRANGE")]);
        assert_eq!(unknown.questions[2].1.words().nth(1), Some(&unknown.filters[0].rules[1].limits[0].key[..]));
        let time =
            Ok(Reply::Many(vec![crate::redis::Value::Bulk(b"1".to_vec()), crate::redis::Value::Bulk(b"0".to_vec())]));
        let empty = Ok(Reply::Many(Vec::new()));
        let known = engine.explain(&request, &[time.clone(), empty.clone(), empty.clone()], 0);
        assert!(known.filters[0].would == Would::Pass && known.questions.is_empty(), "{known:?}");
        assert_eq!(known.filters[0].rules[0].limits[0].state(), Some((0, 3, 0)));
        for (replies, left) in [(vec![time, empty, Err(CallError::Timeout)], 0), (vec![Err(CallError::Connect)], 2)] {
            let half = engine.explain(&request, &replies, 0);
            assert!(half.filters[0].would == Would::Depend && half.questions.len() == left);
        }
    }

    #[test]
    fn a_limiter_behind_a_session_is_told_by_what_that_says_and_never_by_what_a_client_claims() {
        let session = json!({"session": {
            "format": "json", "cookie": "sid", "key_prefix": "s:", "fields": {"user": "x-user"},
            "redis": {"service_name": "x.static"},
        }});
        let limiter = json!({
            "rule_name": "r",
            "rule_items": [item("x-user", "alice", &json!({"query_per_minute": 2}))],
        });
        let mut engine = engine(&json!({"filters": [session, limiter]}));
        engine.set_wall_clock(1_800_000_000_000_000_000);
        let claiming = |cookie: &str| Sample {
            headers: vec![("x-user", b"alice".to_vec()), ("x_user", b"alice".to_vec()), ("cookie", cookie.into())],
            ..Sample::default()
        };
        let verdicts = |explanation: &Explanation| -> Vec<_> {
            explanation.filters.iter().map(|filter| (filter.kind, filter.would)).collect()
        };
        let both = |session, limiter| vec![(FilterKind::Session, session), (FilterKind::Limiter, limiter)];

        let none = engine.explain(&claiming(""), &[], 0);
        assert_eq!(verdicts(&none), both(Would::Pass, Would::Pass));
        assert!(none.questions.is_empty() && matches!(none.filters[1].rules[0].outcome, RuleOutcome::Skipped(_)));

        let request = claiming("sid=a");
        let unknown = engine.explain(&request, &[], 0);
        assert_eq!(verdicts(&unknown), both(Would::Depend, Would::Depend));
        let words: Vec<_> = unknown.questions[0].1.words().take(2).collect();
        assert_eq!((words, unknown.questions.len()), (vec![&b"GETRANGE"[..], b"s:a"], 1));

        let record = |text: &str| vec![Ok(Reply::Single(crate::redis::Value::Bulk(text.into())))];
        let alice = engine.explain(&request, &record(r#"{"user":"alice"}"#), 0);
        assert!(matches!(&alice.filters[1].rules[0].outcome, RuleOutcome::Applies(_)), "{alice:?}");
        assert!(!alice.filters[0].reason.contains("alice"));
        for other in [record(r#"{"user":"bob"}"#), record(""), vec![Err(CallError::Timeout)]] {
            let told = engine.explain(&request, &other, 0);
            assert_eq!(verdicts(&told), both(Would::Pass, Would::Pass), "{other:?}");
            assert!(matches!(&told.filters[1].rules[0].outcome, RuleOutcome::Skipped(_)), "{told:?}");
        }
    }
}
