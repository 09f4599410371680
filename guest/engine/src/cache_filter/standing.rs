//! What becomes of a request by what is stored for it.

use alloc::{rc::Rc, string::String};

use slidegate_cache::{CacheKey, CacheStatus, Forwarding, Reuse, StoredResponse, matches_request};

use super::{
    CacheFilter, CacheTurn, answer,
    flight::CacheAsker,
    hit, now_ms,
    question::CacheQuestion,
    request::CacheableRequest,
    upstreams::{TRIAL_MS, UpstreamStanding},
};
use crate::{telemetry::CacheTally, turn::NotedVerdict, verdict::Response};

/// Locks of trials are of no flight: these begin with one.
const NO_FLIGHT: u64 = 0;

/// What becomes of a request by what is stored.
pub(super) enum CacheStanding {
    /// It is answered.
    Answered(Response, CacheTally),
    /// It goes to its upstream alone.
    Alone(Forwarding),
    /// One of those who ask for the same goes. The others may be answered by what is stored meanwhile, or wait.
    Fetched { may_use_stored: bool },
}

impl CacheFilter {
    /// What becomes of a request that does not wait.
    pub(super) fn stand(
        &mut self,
        asker: &CacheAsker,
        stored: Option<Rc<StoredResponse>>,
        standing: CacheStanding,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        match standing {
            CacheStanding::Answered(response, tally) => self.answered(response, tally, turn),
            CacheStanding::Alone(forwarding) => self.go_alone(asker, stored, forwarding, true, turn),
            CacheStanding::Fetched { may_use_stored } => match stored.filter(|_| may_use_stored) {
                Some(stored) => {
                    let now_ms = now_ms(turn);
                    let status = CacheStatus::hit(stored.fresh_for_s(now_ms));
                    self.answered(hit(&stored, &asker.request, status, now_ms), CacheTally::Stale, turn)
                }
                // Those who fetch for nobody else go by themselves.
                None => self.go_alone(asker, None, Forwarding::Miss, true, turn),
            },
        }
    }

    /// What becomes of a request by what is stored, if anything is.
    pub(super) fn standing(
        &mut self,
        request: &CacheableRequest,
        stored: Option<&StoredResponse>,
        turn: &mut CacheTurn<'_>,
    ) -> CacheStanding {
        let now_ms = now_ms(turn);
        let is_other = stored.is_some_and(|stored| !matches_request(&stored.vary, &stored.headers, &request.headers));
        let Some(stored) = stored.filter(|_| !is_other) else {
            let forwarding = if is_other { Forwarding::VaryMiss } else { Forwarding::Miss };
            return self.without(request, forwarding, turn);
        };
        let hit_as = |tally: CacheTally, detail: Option<&'static str>| {
            let status = CacheStatus { detail, ..CacheStatus::hit(stored.fresh_for_s(now_ms)) };
            CacheStanding::Answered(hit(stored, request, status, now_ms), tally)
        };
        match stored.reuse(&request.directives, now_ms) {
            Reuse::Fresh => hit_as(CacheTally::Hit, None),
            Reuse::AllowedStale => hit_as(CacheTally::Stale, None),
            Reuse::WhileRevalidating if self.is_down(&request.upstream, turn) => {
                hit_as(CacheTally::Stale, Some("upstream_down"))
            }
            Reuse::WhileRevalidating => CacheStanding::Fetched { may_use_stored: true },
            Reuse::Validate if request.directives.only_if_cached => self.without(request, Forwarding::Stale, turn),
            Reuse::Validate => {
                if stored.may_replace_error(now_ms) && self.is_down(&request.upstream, turn) {
                    return hit_as(CacheTally::Stale, Some("upstream_down"));
                }
                // Where each use has to be validated, nobody can wait for another's.
                let is_shared = stored.lifetime.fresh_s > 0 && !stored.lifetime.always_validate;
                let is_wanted = request.directives.no_cache || stored.fresh_for_s(now_ms) > 0;
                match request.is_ordinary() && is_shared && self.rules.lock_timeout_ms > 0 {
                    true => CacheStanding::Fetched { may_use_stored: false },
                    false => CacheStanding::Alone(if is_wanted { Forwarding::Request } else { Forwarding::Stale }),
                }
            }
        }
    }

    /// Whether a request had better not go to its upstream.
    fn is_down(&mut self, upstream: &str, turn: &mut CacheTurn<'_>) -> bool {
        match self.upstreams.standing(upstream, turn.now_ns) {
            UpstreamStanding::Up => return false,
            UpstreamStanding::Down => {}
            UpstreamStanding::Due => {
                // This one does not wait for it; the next may go.
                let (lock, token) = (trial_lock(upstream), self.token(NO_FLIGHT, turn));
                let question = CacheQuestion::Try { upstream: upstream.into(), lock, token, timeout_ms: TRIAL_MS };
                if !self.ask(question, turn) {
                    self.upstreams.may_be_tried(upstream, true, turn.now_ns);
                }
            }
        }
        true
    }

    /// An upstream answered.
    pub(super) fn upstream_answered(&mut self, upstream: &str, turn: &mut CacheTurn<'_>) {
        if self.upstreams.succeeded(upstream) {
            // Others need not wait to find it well.
            self.release(NO_FLIGHT, trial_lock(upstream), None, turn);
        }
    }

    /// What becomes of a request for which nothing is stored.
    fn without(
        &mut self,
        request: &CacheableRequest,
        forwarding: Forwarding,
        turn: &mut CacheTurn<'_>,
    ) -> CacheStanding {
        let status = CacheStatus::forwarded(forwarding);
        if request.directives.only_if_cached {
            return CacheStanding::Answered(answer::not_cached(&status), CacheTally::Miss);
        }
        let rules = Rc::clone(&self.rules);
        if let Some(fallback) = &rules.fallback
            && self.is_down(&request.upstream, turn)
        {
            return CacheStanding::Answered(answer::fallback(fallback, &status), CacheTally::Fallback);
        }
        match request.is_ordinary() && self.rules.lock_timeout_ms > 0 {
            true => CacheStanding::Fetched { may_use_stored: false },
            false => CacheStanding::Alone(forwarding),
        }
    }
}

/// Whoever has this lock tries an upstream. It is called as its requests say it, so that only a digest of it is there.
fn trial_lock(upstream: &str) -> String {
    CacheKey::new(upstream.as_bytes(), b"", [("trial", None)]).lock()
}
