//! From a response that came whole, or did not, to what is stored, and to those who wait for it.

use alloc::{boxed::Box, rc::Rc, string::String, vec::Vec};

use slidegate_cache::{CacheStatus, CachedValue, Reuse, StoredResponse, Uncacheable, matches_request};

use super::{
    CacheFilter, CacheTurn, Fetch,
    flight::CacheAsker,
    hit, now_ms,
    question::{CacheQuestion, StoreQuestion},
};
use crate::telemetry::CacheTally;

/// What turned out not to be storable is fetched by everybody for so long, in milliseconds.
const PASSES_MS: u64 = 30_000;

/// The token of who has no lock.
const NO_TOKEN: &str = "-";

impl CacheFilter {
    /// Has Redis keep a response.
    pub(super) fn store(
        &mut self,
        fetch: &Fetch,
        stored: &Rc<StoredResponse>,
        turn: &mut CacheTurn<'_>,
    ) -> Result<(), Uncacheable> {
        let resource = &fetch.request.key;
        let kept_ms = stored.kept_ms(now_ms(turn));
        if kept_ms == 0 {
            return Err(Uncacheable::NoUse);
        }
        let (key, variant_of) = match stored.vary.is_empty() {
            true => {
                self.variants.forget(resource.digest());
                (resource.clone(), None)
            }
            false => {
                let names: Vec<String> = stored.vary.iter().map(|(name, _)| name.clone()).collect();
                let varies = CachedValue::Varies(names.clone()).written(&resource.material);
                self.variants.remember(*resource.digest(), names);
                (resource.variant(&stored.vary), Some((resource.clone(), varies.ok_or(Uncacheable::VaryTooMany)?)))
            }
        };
        let value = CachedValue::Response(StoredResponse::clone(stored)).written(&key.material);
        let value = value.ok_or(Uncacheable::TooLarge)?;
        let token = fetch.flight.map_or_else(|| Rc::from(NO_TOKEN), |flight| self.token(flight, turn));
        let (scripts, lock) = (Rc::clone(&self.scripts), fetch.key.lock());
        let requested_ms = stored.requested_ms;
        let question = StoreQuestion { scripts, key, lock, token, value, kept_ms, requested_ms, variant_of };
        match self.ask(CacheQuestion::Store(Box::new(question)), turn) {
            true => Ok(()),
            false => Err(Uncacheable::NoRoom),
        }
    }

    /// Those who wait for a response get it, if it is for them.
    pub(super) fn share(&mut self, fetch: &Fetch, stored: &Rc<StoredResponse>, turn: &mut CacheTurn<'_>) {
        self.free_followed(turn, fetch.bytes);
        let now_ms = now_ms(turn);
        for asker in fetch.flight.map(|id| self.land(id, turn)).unwrap_or_default() {
            if !matches_request(&stored.vary, &stored.headers, &asker.request.headers) {
                self.look_up_again(asker, turn);
                continue;
            }
            match stored.reuse(&asker.request.directives, now_ms) {
                Reuse::Validate => {
                    // What was voided while this came is not to be found good again.
                    let stored = Some(stored).filter(|stored| now_ms <= stored.requested_ms.saturating_add(1_000));
                    self.send_alone(&asker, stored.cloned(), true, turn);
                }
                _ => {
                    let ttl_s = Some(stored.fresh_for_s(now_ms));
                    let status = CacheStatus { ttl_s, is_collapsed: true, ..CacheStatus::forwarded(fetch.forwarding) };
                    self.settle_with(
                        &asker,
                        hit(Rc::clone(stored), &asker.request, status, now_ms),
                        CacheTally::Collapsed,
                        turn,
                    );
                }
            }
        }
    }

    /// A response is not stored: nobody waits for it any more, nor, if it will be so again, for the next.
    pub(super) fn not_stored(&mut self, fetch: Fetch, cause: Uncacheable, turn: &mut CacheTurn<'_>) {
        self.tally(CacheTally::NotStored(cause), turn);
        if let Some(copy) = &fetch.copy {
            self.copied = self.copied.saturating_sub(copy.body.len());
        }
        self.free_followed(turn, fetch.bytes);
        let Some(id) = fetch.flight else { return };
        let is_lasting = !matches!(cause, Uncacheable::Cut | Uncacheable::NoRoom | Uncacheable::Changed);
        let passes = CachedValue::Passes.written(&fetch.key.material).filter(|_| is_lasting);
        let instead = passes.map(|value| (fetch.key.value(), value, PASSES_MS));
        self.release(id, fetch.key.lock(), instead, turn);
        self.disperse(id, true, turn);
    }

    /// Nothing comes of a response any more, or not to its end. Whoever waits for it does it anew.
    pub(super) fn abandon(&mut self, fetch: Fetch, turn: &mut CacheTurn<'_>) {
        if let Some(copy) = &fetch.copy {
            self.tally(CacheTally::NotStored(Uncacheable::Cut), turn);
            self.copied = self.copied.saturating_sub(copy.body.len());
        }
        self.free_followed(turn, fetch.bytes);
        if let Some(id) = fetch.flight {
            self.leader_left(id, turn);
        }
    }

    /// A fetch is over, and its lock with it. Returns who waits for it.
    pub(super) fn ended(&mut self, fetch: &Fetch, turn: &mut CacheTurn<'_>) -> Vec<CacheAsker> {
        self.free_followed(turn, fetch.bytes);
        let Some(id) = fetch.flight else { return Vec::new() };
        self.release(id, fetch.key.lock(), None, turn);
        self.land(id, turn)
    }
}
