//! What the engine says of a request, in the contract's terms.

use slidegate_engine::{explain as engine, redis::Command};

use crate::{
    contract::slidegate::filter::explanation::{
        Explanation, FilterMet, LimitMet, LimitState, Question, RuleMet, RuleOutcome, Verdict,
    },
    convert,
};

pub(crate) fn explanation(explanation: engine::Explanation) -> Explanation {
    Explanation {
        filters: explanation.filters.into_iter().map(filter).collect(),
        questions: explanation.questions.into_iter().map(question).collect(),
    }
}

fn question((service, command): (u32, Command)) -> Question {
    Question { service, command: convert::command(command) }
}

fn filter(filter: engine::FilterMet) -> FilterMet {
    FilterMet {
        path: filter.path,
        kind: kind(filter.kind).to_string(),
        policy: filter.policy,
        name: filter.name,
        verdict: match filter.would {
            engine::Would::Pass => Verdict::Pass,
            engine::Would::Respond => Verdict::Respond,
            engine::Would::Depend => Verdict::Depend,
        },
        reason: filter.reason,
        rules: filter.rules.into_iter().map(rule).collect(),
    }
}

fn kind(kind: engine::FilterKind) -> &'static str {
    match kind {
        engine::FilterKind::Limiter => "limiter",
        engine::FilterKind::Session => "session",
        engine::FilterKind::CookieVault => "cookie_vault",
        engine::FilterKind::Cache => "cache",
    }
}

fn rule(rule: engine::RuleMet) -> RuleMet {
    RuleMet {
        path: rule.path,
        about: rule.about,
        outcome: match rule.outcome {
            engine::RuleOutcome::Applies(entry) => RuleOutcome::Applies(entry),
            engine::RuleOutcome::Skipped(reason) => RuleOutcome::Skipped(reason),
            engine::RuleOutcome::Frees(reason) => RuleOutcome::Frees(reason),
            engine::RuleOutcome::Refuses(reason) => RuleOutcome::Refuses(reason),
        },
        limits: rule.limits.into_iter().map(limit).collect(),
    }
}

fn limit(limit: engine::LimitMet) -> LimitMet {
    let state = limit.state().map(|(used, left, room_after_us)| LimitState { used, left, room_after_us });
    let charge = limit.charge;
    LimitMet {
        limit: charge.limit,
        window_us: charge.window_us,
        slot_us: charge.slot_us,
        cost: charge.cost,
        enforced: charge.enforced,
        service: limit.service,
        key: limit.key,
        state,
    }
}
