//! From an upstream's response to what is stored of it, and to those who wait for it.

use alloc::{boxed::Box, rc::Rc, string::ToString, vec::Vec};
use core::mem;

use slidegate_cache::{
    CacheKey, CacheStatus, HeaderFields, Lifetime, ResponseDirectives, StoredResponse, TAGS_MAX, Uncacheable,
    initial_age_s, is_conditional, matches_request, may_store, purge_tag, vary_names, vary_values, voided,
};

use super::{
    BodyCopy, COPIES_MAX, CacheFilter, CacheTurn, FOLLOWED_BYTES, Fetch, Followed, UpstreamAnswer, answer,
    flight::KNOWN_NS, hit, noted, now_ms, question::CacheQuestion,
};
use crate::{
    body::{BodyCoding, BodyPiece, Interest},
    streams::{WAITER_BYTES, Waiter},
    telemetry::CacheTally,
    turn::NotedVerdict,
    verdict::{Edits, Pass, Verdict},
    wants::{ResponseHead, ResponseOrigin, ResponseView, Wants},
};

/// A response with longer headers is not stored, in bytes.
const HEADERS_MAX: usize = 32 << 10;

impl CacheFilter {
    /// A response's headers have come.
    #[inline(never)]
    pub(crate) fn on_response_headers(
        &mut self,
        waiter: Waiter,
        response: &dyn ResponseView,
        turn: &mut CacheTurn<'_>,
    ) -> Option<NotedVerdict> {
        match self.followed.remove(&waiter.stream) {
            None => Some(NotedVerdict::pass()),
            Some(Followed::Unsafe { authority, path }) => {
                self.free_followed(turn, FOLLOWED_BYTES + path.len());
                self.changed(waiter, &authority, &path, response, turn)
            }
            Some(Followed::Fetch(fetch)) => self.fetched(waiter, fetch, response, turn),
        }
    }

    /// A piece of a response's body has come, which goes on whatever becomes of its copy.
    #[inline(never)]
    pub(crate) fn on_response_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut CacheTurn<'_>,
    ) -> Option<NotedVerdict> {
        let length = piece.bytes.len();
        let has_room = self.copied + length <= COPIES_MAX && self.fits_followed(turn, length);
        let body_max = self.rules.body_max;
        let Some(Followed::Fetch(fetch)) = self.followed.get_mut(&waiter.stream) else {
            return Some(NotedVerdict::pass());
        };
        let Some(copy) = &mut fetch.copy else { return Some(NotedVerdict::pass()) };
        let obstacle = if piece.coding == BodyCoding::Decoded {
            Some(Uncacheable::Changed)
        } else if copy.body.len() + length > body_max {
            Some(Uncacheable::TooLarge)
        } else if !has_room {
            Some(Uncacheable::NoRoom)
        } else {
            None
        };
        if obstacle.is_none() {
            copy.body.extend_from_slice(piece.bytes);
            fetch.bytes += length;
            self.copied += length;
            self.take_followed(turn, length);
            if !piece.end {
                return Some(watching());
            }
        }
        if let Some(Followed::Fetch(fetch)) = self.followed.remove(&waiter.stream) {
            match obstacle {
                Some(cause) => self.not_stored(*fetch, cause, turn),
                None => self.copied_whole(*fetch, turn),
            }
        }
        Some(NotedVerdict::pass())
    }

    /// Something may have changed at an upstream: what is stored of it is void, before its client hears of it. None: it
    /// waits for that.
    fn changed(
        &mut self,
        waiter: Waiter,
        authority: &[u8],
        path: &[u8],
        response: &dyn ResponseView,
        turn: &mut CacheTurn<'_>,
    ) -> Option<NotedVerdict> {
        let named = ["location", "content-location"];
        let fields = named.map(|name| (name.to_string(), response.header(name)));
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let mut is_asked = false;
        for path in voided(authority, path, response.head().status, &HeaderFields(fields)) {
            let marker = CacheKey::new(authority, &self.rules.query.of(&path), []).marker();
            let (scripts, now_ms) = (Rc::clone(&self.scripts), now_ms(turn));
            let waiter = Some(waiter).filter(|_| !is_asked);
            is_asked |= self.ask(CacheQuestion::Void { scripts, marker, now_ms, waiter }, turn);
        }
        (!is_asked).then(NotedVerdict::pass)
    }

    /// What an upstream answered has begun. None: it failed, and waits for what may stand in its place.
    fn fetched(
        &mut self,
        waiter: Waiter,
        mut fetch: Box<Fetch>,
        response: &dyn ResponseView,
        turn: &mut CacheTurn<'_>,
    ) -> Option<NotedVerdict> {
        let head = response.head();
        let is_of_upstream = head.origin == ResponseOrigin::Upstream;
        let is_unavailable = matches!(head.status, 502..=504);
        // What a gateway says in the place of an upstream that it could not reach counts whatever is configured.
        let is_failure = (is_unavailable && !is_of_upstream) || self.rules.failover_statuses.contains(&head.status);
        // What one address makes fail says nothing of the others.
        if is_failure && is_unavailable {
            self.upstreams.failed(&fetch.request.upstream, is_of_upstream, turn.now_ns);
        } else if is_of_upstream {
            self.upstream_answered(&fetch.request.upstream, turn);
        }
        let headers = response.headers().map(HeaderFields).filter(|_| is_of_upstream);
        let answer = UpstreamAnswer { head, headers, is_failure };
        let bytes = answer.headers.as_ref().map_or(0, HeaderFields::size);
        let is_known = fetch.is_known && now_ms(turn) <= fetch.requested_ms.saturating_add(KNOWN_NS / 1_000_000);
        let may_wait = is_failure && !is_known && self.fits_followed(turn, bytes);
        if may_wait && self.look_up_failed(waiter, &fetch.request, turn) {
            fetch.bytes += bytes;
            self.take_followed(turn, bytes);
            fetch.failed = Some(answer);
            self.followed.insert(waiter.stream, Followed::Fetch(fetch));
            return None;
        }
        Some(self.judged(waiter.stream, fetch, answer, turn))
    }

    /// Whoever waits in a flight as his upstream failed goes on: this is what Redis says is stored, or it said nothing.
    pub(super) fn relieve(&mut self, id: u64, told: Option<Option<Rc<StoredResponse>>>, turn: &mut CacheTurn<'_>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        for waiter in mem::take(&mut flight.failed) {
            self.free_waiting(turn, WAITER_BYTES);
            if !turn.streams.waits(&waiter) {
                continue;
            }
            let settled = match self.followed.remove(&waiter.stream) {
                Some(Followed::Fetch(fetch)) => self.judged_by(waiter.stream, fetch, told.as_ref(), turn),
                // Nothing is owed to it any more.
                _ => NotedVerdict::pass(),
            };
            turn.settled.push_back((waiter, settled));
        }
    }

    /// What becomes of a failure by what Redis says is stored, if it said something.
    fn judged_by(
        &mut self,
        stream: u64,
        mut fetch: Box<Fetch>,
        told: Option<&Option<Rc<StoredResponse>>>,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        let Some(answer) = fetch.failed.take() else { return NotedVerdict::pass() };
        if let Some(told) = told {
            let is_its =
                |stored: &Rc<StoredResponse>| matches_request(&stored.vary, &stored.headers, &fetch.request.headers);
            fetch.stored = told.clone().filter(is_its);
        }
        self.judged(stream, fetch, answer, turn)
    }

    /// What becomes of an upstream's answer.
    fn judged(
        &mut self,
        stream: u64,
        mut fetch: Box<Fetch>,
        answer: UpstreamAnswer,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        let UpstreamAnswer { head, headers, is_failure } = answer;
        if is_failure {
            fetch = match self.replaced(fetch, head, turn) {
                Ok(verdict) => return verdict,
                Err(fetch) => fetch,
            };
        }
        let Some(headers) = headers else { return self.passed(*fetch, Uncacheable::Changed, turn) };
        if head.status == 304 && fetch.is_validating {
            return self.confirmed(*fetch, &headers, turn);
        }
        if fetch.request.is_head {
            return self.described(*fetch, head, &headers, turn);
        }
        match self.begun(&fetch, head, headers, turn) {
            Ok(copy) => self.copying(stream, fetch, copy, head.end, turn),
            Err(cause) => self.passed(*fetch, cause, turn),
        }
    }

    /// An upstream failed: what is stored stands in its place, or else the fallback. The error is the fetch again, if
    /// neither is there.
    fn replaced(
        &mut self,
        fetch: Box<Fetch>,
        head: ResponseHead,
        turn: &mut CacheTurn<'_>,
    ) -> Result<NotedVerdict, Box<Fetch>> {
        let now_ms = now_ms(turn);
        let stored = fetch.stored.clone().filter(|stored| stored.may_replace_error(now_ms));
        if stored.is_none() && self.rules.fallback.is_none() {
            return Err(fetch);
        }
        let told = CacheStatus { forwarded_status: Some(head.status), ..CacheStatus::forwarded(fetch.forwarding) };
        let askers = self.ended(&fetch, turn);
        if let Some(stored) = stored {
            let told = CacheStatus { ttl_s: Some(stored.fresh_for_s(now_ms)), ..told };
            for asker in askers {
                match matches_request(&stored.vary, &stored.headers, &asker.request.headers) {
                    true => {
                        let told = CacheStatus { is_collapsed: true, ..told };
                        let response = hit(Rc::clone(&stored), &asker.request, told, now_ms);
                        self.settle_with(&asker, response, CacheTally::Stale, turn);
                    }
                    false => self.send_alone(&asker, None, true, turn),
                }
            }
            return Ok(self.answered(hit(stored, &fetch.request, told, now_ms), CacheTally::Stale, turn));
        }
        let Some(fallback) = self.rules.fallback.clone() else { return Ok(NotedVerdict::pass()) };
        for asker in askers {
            // What an upstream says to one request it may not say to another.
            if head.origin == ResponseOrigin::Upstream {
                self.send_alone(&asker, None, true, turn);
                continue;
            }
            let told = CacheStatus { is_collapsed: true, ..told };
            self.settle_with(&asker, answer::fallback(&fallback, &told), CacheTally::Fallback, turn);
        }
        Ok(self.answered(answer::fallback(&fallback, &told), CacheTally::Fallback, turn))
    }

    /// What is stored is still good (RFC 9111, 4.3.3 and 4.3.4).
    fn confirmed(&mut self, fetch: Fetch, headers: &HeaderFields, turn: &mut CacheTurn<'_>) -> NotedVerdict {
        let Some(stored) = fetch.stored.clone() else { return self.passed(fetch, Uncacheable::Status, turn) };
        let is_conditional = is_conditional(&fetch.request.headers);
        let is_confirmed = stored.is_confirmed_by(headers, !is_conditional);
        if is_conditional && !is_confirmed {
            // It is what the client has that is good.
            return self.passed(fetch, Uncacheable::Status, turn);
        }
        let now_ms = now_ms(turn);
        let fresh = Rc::new(self.freshened(&fetch, &stored, headers, turn));
        let (request, scope) = (&fetch.request.headers, fetch.request.scope);
        let is_kept = is_confirmed && fresh.may_be_kept_with(headers, request, scope);
        let is_stored = is_kept && fetch.may_store && self.store(&fetch, &fresh, turn).is_ok();
        let status = CacheStatus {
            forwarded_status: Some(304),
            ttl_s: Some(fresh.fresh_for_s(now_ms)),
            is_stored,
            ..CacheStatus::forwarded(fetch.forwarding)
        };
        let response = hit(Rc::clone(&fresh), &fetch.request, status, now_ms);
        let settled = self.answered(response, CacheTally::Revalidated, turn);
        if is_kept {
            if let Some(flight) = fetch.flight.filter(|_| !is_stored) {
                self.release(flight, fetch.key.lock(), None, turn);
            }
            self.share(&fetch, &fresh, turn);
        } else {
            // What it says now is not for others, nor is what was stored before any more.
            let (scripts, marker) = (Rc::clone(&self.scripts), fetch.key.marker());
            self.ask(CacheQuestion::Void { scripts, marker, now_ms, waiter: None }, turn);
            self.not_stored(fetch, Uncacheable::Changed, turn);
        }
        settled
    }

    fn freshened(
        &self,
        fetch: &Fetch,
        stored: &StoredResponse,
        headers: &HeaderFields,
        turn: &CacheTurn<'_>,
    ) -> StoredResponse {
        let mut fresh = stored.freshened(headers, fetch.requested_ms, now_ms(turn), &self.rules.terms);
        fresh.lifetime = fresh.lifetime.scattered(fetch.request.key.digest());
        if let Some(tags) = self.tags(headers).filter(|tags| !tags.is_empty()) {
            fresh.tags = tags;
        }
        fresh
    }

    /// The answer to a HEAD tells of what a GET would get (RFC 9111, 4.3.5).
    fn described(
        &mut self,
        fetch: Fetch,
        head: ResponseHead,
        headers: &HeaderFields,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        let stored = fetch.stored.clone().filter(|stored| head.status == 200 && stored.is_described_by(headers));
        if let Some(stored) = stored {
            let fresh = Rc::new(self.freshened(&fetch, &stored, headers, turn));
            if fetch.may_store && fresh.may_be_kept_with(headers, &fetch.request.headers, fetch.request.scope) {
                let _ = self.store(&fetch, &fresh, turn);
            }
        }
        let status = CacheStatus::forwarded(fetch.forwarding);
        self.ended(&fetch, turn);
        edited(&status, Wants::default())
    }

    /// A response that may be stored begins.
    fn begun(
        &self,
        fetch: &Fetch,
        head: ResponseHead,
        headers: HeaderFields,
        turn: &CacheTurn<'_>,
    ) -> Result<BodyCopy, Uncacheable> {
        let directives = ResponseDirectives::read(&headers);
        let request = &fetch.request;
        may_store(&request.headers, head.status, &headers, &directives, request.scope)?;
        if headers.has("trailer") {
            return Err(Uncacheable::Trailers);
        }
        let names = vary_names(&headers, request.scope)?;
        let vary = vary_values(&names, &request.headers)?;
        let received_ms = now_ms(turn);
        let lifetime = Lifetime::of(head.status, &headers, &directives, received_ms / 1_000, &self.rules.terms);
        if !lifetime.is_of_use() {
            return Err(Uncacheable::NoUse);
        }
        let lengths: Vec<&[u8]> = headers.values("content-length").collect();
        let length = match lengths.as_slice() {
            [] => None,
            [text] if !text.is_empty() && text.iter().all(u8::is_ascii_digit) => {
                let length = core::str::from_utf8(text).ok().and_then(|text| text.parse::<usize>().ok());
                Some(length.ok_or(Uncacheable::TooLarge)?)
            }
            _ => return Err(Uncacheable::Cut),
        };
        // Of what ends with its connection nobody can tell that it is whole.
        let is_open = length.is_none() && !head.end && !headers.has("transfer-encoding");
        if is_open && headers.first("connection") == Some(b"close") {
            return Err(Uncacheable::Cut);
        }
        let tags = self.tags(&headers).ok_or(Uncacheable::TooLarge)?;
        if length.is_some_and(|length| length > self.rules.body_max) || headers.size() > HEADERS_MAX {
            return Err(Uncacheable::TooLarge);
        }
        let told = length.unwrap_or(0);
        if self.copied + told > COPIES_MAX || !self.fits_followed(turn, told + headers.size()) {
            return Err(Uncacheable::NoRoom);
        }
        let lifetime = lifetime.scattered(request.key.digest());
        Ok(BodyCopy { status: head.status, headers, received_ms, lifetime, vary, tags, body: Vec::new(), length })
    }

    /// The digests of a response's tags, between spaces or commas. None: they are too many.
    fn tags(&self, headers: &HeaderFields) -> Option<Vec<Vec<u8>>> {
        let fields = self.rules.tags_headers.iter().flat_map(|name| headers.values(name));
        let separates = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
        let tags = fields.flat_map(|field| field.split(separates)).filter(|tag| !tag.is_empty());
        let tags: Vec<Vec<u8>> = tags.map(|tag| purge_tag(tag).to_vec()).collect();
        (tags.len() <= TAGS_MAX).then_some(tags)
    }

    /// A response is copied from now on.
    fn copying(
        &mut self,
        stream: u64,
        mut fetch: Box<Fetch>,
        copy: BodyCopy,
        is_empty: bool,
        turn: &mut CacheTurn<'_>,
    ) -> NotedVerdict {
        let age_s = initial_age_s(&copy.headers, fetch.requested_ms, copy.received_ms);
        let ttl_s = copy.lifetime.fresh_s as i64 - age_s as i64;
        let is_stored = fetch.may_store;
        let status = CacheStatus { ttl_s: Some(ttl_s), is_stored, ..CacheStatus::forwarded(fetch.forwarding) };
        if !is_stored {
            // Nor does anybody wait for it.
            self.ended(&fetch, turn);
            return edited(&status, Wants::default());
        }
        let head = copy.headers.size();
        fetch.bytes += head;
        self.take_followed(turn, head);
        fetch.copy = Some(Box::new(copy));
        if is_empty {
            self.copied_whole(*fetch, turn);
            return edited(&status, Wants::default());
        }
        self.followed.insert(stream, Followed::Fetch(fetch));
        edited(&status, Wants { response_body: Interest::Copy, done: true, ..Wants::default() })
    }

    /// A response goes on that is not stored.
    fn passed(&mut self, fetch: Fetch, cause: Uncacheable, turn: &mut CacheTurn<'_>) -> NotedVerdict {
        let status = CacheStatus { detail: Some(cause.as_str()), ..CacheStatus::forwarded(fetch.forwarding) };
        self.not_stored(fetch, cause, turn);
        edited(&status, Wants::default())
    }

    /// A response was seen to its end.
    fn copied_whole(&mut self, mut fetch: Fetch, turn: &mut CacheTurn<'_>) {
        let Some(copy) = fetch.copy.take() else { return };
        self.copied = self.copied.saturating_sub(copy.body.len());
        if copy.length.is_some_and(|length| length != copy.body.len()) {
            return self.not_stored(fetch, Uncacheable::Cut, turn);
        }
        let BodyCopy { status, headers, received_ms, lifetime, vary, tags, body, .. } = *copy;
        let stored = Rc::new(StoredResponse {
            status,
            initial_age_s: initial_age_s(&headers, fetch.requested_ms, received_ms),
            headers: StoredResponse::kept_fields(&headers),
            body: Rc::new(body),
            requested_ms: fetch.requested_ms,
            received_ms,
            lifetime,
            vary,
            tags,
        });
        match self.store(&fetch, &stored, turn) {
            Ok(()) => self.share(&fetch, &stored, turn),
            Err(cause) => self.not_stored(fetch, cause, turn),
        }
    }
}

/// A response goes on with what became of its request.
fn edited(status: &CacheStatus, wants: Wants) -> NotedVerdict {
    let edits = Edits { response: answer::edits(status), ..Edits::default() };
    noted(Verdict::Pass(Pass { edits, wants, ..Pass::default() }))
}

fn watching() -> NotedVerdict {
    let wants = Wants { response_body: Interest::Copy, done: true, ..Wants::default() };
    noted(Verdict::Pass(Pass { wants, ..Pass::default() }))
}
