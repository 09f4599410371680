//! What becomes of a request by what is stored for it.

use alloc::{boxed::Box, rc::Rc, string::String};

use slidegate_cache::{CacheKey, CacheStatus, Forwarding, Reuse, StoredResponse, matches_request};

use super::{
    CacheFilter, CacheTurn, answer,
    flight::CacheAsker,
    hit, now_ms,
    question::{CacheQuestion, TrialQuestion},
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
    /// It is answered by what is stored.
    Stored(CacheStatus, CacheTally),
    /// Its upstream is down, and may be due to be tried. It goes if nobody else does, or else is answered so.
    Trial(Response, CacheTally),
    /// It goes to its upstream alone.
    Alone(Forwarding),
    /// One of those who ask for the same goes. The others may be answered by what is stored meanwhile, or wait.
    Fetched { may_use_stored: bool },
}

impl CacheFilter {
    /// What becomes of a request that does not wait for another. None: it waits for leave to try its upstream.
    #[inline]
    pub(super) fn stand(
        &mut self,
        asker: &CacheAsker,
        stored: Option<Rc<StoredResponse>>,
        standing: CacheStanding,
        turn: &mut CacheTurn<'_>,
    ) -> Option<NotedVerdict> {
        Some(match standing {
            CacheStanding::Answered(response, tally) => self.answered(response, tally, turn),
            CacheStanding::Stored(status, tally) => match stored {
                Some(stored) => self.answered(hit(stored, &asker.request, status, now_ms(turn)), tally, turn),
                None => self.go_alone(asker, None, Forwarding::Miss, true, turn),
            },
            CacheStanding::Trial(response, tally) => {
                let (asker, instead) = (asker.clone(), (response, tally));
                return self.ask_to_try(TrialQuestion { asker, stored, instead }, turn);
            }
            CacheStanding::Alone(forwarding) => self.go_alone(asker, stored, forwarding, true, turn),
            CacheStanding::Fetched { may_use_stored } => match stored.filter(|_| may_use_stored) {
                Some(stored) => {
                    let now_ms = now_ms(turn);
                    let status = CacheStatus::hit(stored.fresh_for_s(now_ms));
                    self.answered(hit(stored, &asker.request, status, now_ms), CacheTally::Stale, turn)
                }
                // Those who fetch for nobody else go by themselves.
                None => self.go_alone(asker, None, Forwarding::Miss, true, turn),
            },
        })
    }

    /// Asks whether a request may try its upstream. None: it waits for that.
    fn ask_to_try(&mut self, trial: TrialQuestion, turn: &mut CacheTurn<'_>) -> Option<NotedVerdict> {
        let upstream = &trial.asker.request.upstream;
        let (lock, token) = (trial_lock(upstream), self.token(NO_FLIGHT, turn));
        let (asker, stored) = (trial.asker.clone(), trial.stored.clone());
        let question = CacheQuestion::Try { trial: Box::new(trial), lock, token, timeout_ms: TRIAL_MS };
        // Where nobody can be asked, each instance tries for itself.
        (!self.ask(question, turn)).then(|| self.try_upstream(&asker, stored, turn))
    }

    /// It is known whether a request may try its upstream.
    pub(super) fn may_try(&mut self, trial: TrialQuestion, is_granted: bool, turn: &mut CacheTurn<'_>) {
        let TrialQuestion { asker, stored, instead: (response, tally) } = trial;
        let is_there = turn.streams.waits(&asker.waiter);
        if is_there && is_granted {
            let settled = self.try_upstream(&asker, stored, turn);
            return self.settle(&asker, settled, turn);
        }
        let upstream = &asker.request.upstream;
        self.upstreams.not_tried(upstream, turn.now_ns);
        if is_granted {
            self.release(NO_FLIGHT, trial_lock(upstream), None, turn);
        }
        match is_there {
            true => self.settle_with(&asker, response, tally, turn),
            false => self.free_waiting(turn, asker.bytes()),
        }
    }

    fn try_upstream(
        &mut self,
        asker: &CacheAsker,
        stored: Option<Rc<StoredResponse>>,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        self.upstreams.tried(&asker.request.upstream);
        let forwarding = if stored.is_some() { Forwarding::Stale } else { Forwarding::Miss };
        self.go_alone(asker, stored, forwarding, true, turn)
    }

    /// What becomes of a request by what is stored, if anything is.
    #[inline]
    pub(super) fn standing(
        &mut self,
        request: &CacheableRequest,
        stored: Option<&Rc<StoredResponse>>,
        turn: &mut CacheTurn<'_>,
    ) -> CacheStanding {
        let now_ms = now_ms(turn);
        let is_other = stored.is_some_and(|stored| !matches_request(&stored.vary, &stored.headers, &request.headers));
        let Some(stored) = stored.filter(|_| !is_other) else {
            let forwarding = if is_other { Forwarding::VaryMiss } else { Forwarding::Miss };
            return self.without(request, forwarding, turn);
        };
        let status = CacheStatus::hit(stored.fresh_for_s(now_ms));
        let while_down = || {
            let status = CacheStatus { detail: Some("upstream_down"), ..status };
            (hit(Rc::clone(stored), request, status, now_ms), CacheTally::Stale)
        };
        match stored.reuse(&request.directives, now_ms) {
            Reuse::Fresh => CacheStanding::Stored(status, CacheTally::Hit),
            Reuse::AllowedStale => CacheStanding::Stored(status, CacheTally::Stale),
            Reuse::WhileRevalidating => {
                let down = self.if_down(&request.upstream, while_down, turn);
                down.unwrap_or(CacheStanding::Fetched { may_use_stored: true })
            }
            Reuse::Validate if request.directives.only_if_cached => self.without(request, Forwarding::Stale, turn),
            Reuse::Validate => {
                if stored.may_replace_error(now_ms)
                    && let Some(down) = self.if_down(&request.upstream, while_down, turn)
                {
                    return down;
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

    /// What becomes of a request whose upstream is down. None: it is not.
    fn if_down(
        &mut self,
        upstream: &str,
        answer: impl FnOnce() -> (Response, CacheTally),
        turn: &CacheTurn<'_>,
    ) -> Option<CacheStanding> {
        let standing = self.upstreams.standing(upstream, turn.now_ns);
        let (response, tally) = if standing == UpstreamStanding::Up { return None } else { answer() };
        Some(match standing {
            UpstreamStanding::Due => CacheStanding::Trial(response, tally),
            UpstreamStanding::Up | UpstreamStanding::Down => CacheStanding::Answered(response, tally),
        })
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
            && self.upstreams.is_silent(&request.upstream)
            && let Some(down) =
                self.if_down(&request.upstream, || (answer::fallback(fallback, &status), CacheTally::Fallback), turn)
        {
            return down;
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
