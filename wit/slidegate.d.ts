// The contract of wit/*.wit for a host in TypeScript or JavaScript, by the conventions of jco. `just docs` makes this.

/** A result inside of something else. One that a function returns is its value, or its error is thrown. */
export type Result<T, E> = { tag: "ok"; val: T } | { tag: "err"; val: E };

/** What a filter says of a request without deciding on it. */
export namespace explanation {
    /** A Redis command that changes nothing and tells how much of limits is in use, or whose session it is. */
    export interface Question {
        /** Whom to ask. */
        service: redis.ServiceIndex;
        /** What to send. */
        command: redis.Command;
    }

    /** How a filter stands to the request. */
    export type Verdict =
        /** It would pass. */
        | "pass"
        /** It would be answered. */
        | "respond"
        /** That depends on what the questions tell. */
        | "depend";

    /** How a limit stands. */
    export interface LimitState {
        /** How much of it is in use. */
        used: bigint;
        /** How much of it is left. */
        left: bigint;
        /** After how many microseconds there is room for this request. 0: now. The greatest number: never. */
        roomAfterUs: bigint;
    }

    /** A limit that the request is charged to. */
    export interface LimitMet {
        /** How much a window admits. */
        limit: bigint;
        /** How long the window is, in microseconds. */
        windowUs: bigint;
        /** How wide its slots are, in microseconds; 1 if it is exact. */
        slotUs: bigint;
        /** How much this request takes. */
        cost: bigint;
        /** False: the limit only tries, and refuses nobody (`dry_run`). */
        enforced: boolean;
        /** Which Redis counts. None: the instance does. */
        service?: redis.ServiceIndex;
        /** The key that counts. */
        key: Uint8Array;
        /** None as long as that is not known. */
        state?: LimitState;
    }

    /** What a rule has to do with the request. */
    export type RuleOutcome =
        /**
         * It applies by this entry, named by its path in the configuration as in `rule_items[0].limit_keys[2]`; several, with commas between, if
         * several values of the request count. Its limits follow, but for one that another rule counts by the same key.
         */
        | { tag: "applies"; val: string }
        /** It does not apply; why not, in words. */
        | { tag: "skipped"; val: string }
        /** It frees the request; why, in words. */
        | { tag: "frees"; val: string }
        /** It refuses the request without counting; why, in words. */
        | { tag: "refuses"; val: string };

    /** A rule of a policy. */
    export interface RuleMet {
        /** Where it stands in the configuration, as in `rule_items[0]`, or `global_threshold`. */
        path: string;
        /** What it counts by, in words. */
        about: string;
        /** What it has to do with the request. */
        outcome: RuleOutcome;
        /** The limits that the request is charged to, if it applies. */
        limits: Array<LimitMet>;
    }

    /** One filter of the configuration. */
    export interface FilterMet {
        /** Where it stands in the configuration. Empty: it is all of it. */
        path: string;
        /** What it is: `limiter`, `session`, `cookie_vault` or `cache`. */
        kind: string;
        /** Where the policy stands that the request meets, as in `_rules_[1]`; empty for that of the whole filter. None: no policy is for this request. */
        policy?: string;
        /** The policy's name: `rule_name`. */
        name: string;
        /** What becomes of the request, as far as this filter goes. */
        verdict: Verdict;
        /** Why, in a sentence. */
        reason: string;
        /** In the order in which they are asked. */
        rules: Array<RuleMet>;
    }

    /** What a filter has to say. */
    export interface Explanation {
        /** In the order in which a request passes them. */
        filters: Array<FilterMet>;
        /** What else to ask Redis so that more can be said. Nothing if all is known. */
        questions: Array<Question>;
    }
}

/**
 * The filter: a state machine that many requests pass through at once. Nothing here blocks.
 *
 * One instance serves one worker, one call at a time, and is kept: it remembers what saves Redis calls. The host may replace it at any time
 * (new configuration, a trap); only local windows are lost with it. A host calls `configure` once, before anything else.
 *
 * The life of a stream: `on-request`; then, as far as the stream gets and the filter wants them, `on-request-body`, `on-response-headers`,
 * `on-response-body`, and at the end `on-done`. Whatever a hook queued (commands, lines, times to be woken at) it has asked for when it returns.
 */
export namespace filter {
    /** A Redis that the configuration names. The host connects when it likes, at the latest at the first call. */
    export interface RedisService {
        /** As configured: a host name, or a name that only a mesh or the host's own map can resolve. */
        serviceName: string;
        /** Its TCP port. */
        port: number;
        /** Empty for none. */
        username: string;
        /** Empty for none. */
        password: string;
        /** Milliseconds a command may take. */
        timeoutMs: number;
        /** The database that SELECT takes. */
        database: number;
    }

    /** Parts of a request and its response that a filter may use, beside request headers. What is not among them no hook asks for or wants. */
    export interface Parts {
        /** `http.method`. */
        method?: boolean;
        /** `http.path`. */
        path?: boolean;
        /** `http.authority`. */
        authority?: boolean;
        /** `http.source-address`. */
        sourceAddress?: boolean;
        /** `http.route-name`. */
        routeName?: boolean;
        /** `http.service-name`. */
        serviceName?: boolean;
        /** `on-request-body`. */
        requestBody?: boolean;
        /** Changes to the request's headers. */
        requestEdits?: boolean;
        /** `on-response-headers`, and with it the getters of the response. */
        responseHeaders?: boolean;
        /** `on-response-body`. */
        responseBody?: boolean;
        /** Changes to the response's headers. */
        responseEdits?: boolean;
        /** `http.scheme`. */
        scheme?: boolean;
        /** `http.has-body`. */
        hasBody?: boolean;
    }

    /** Which request headers a filter may ask for. */
    export type HeaderNames =
        /** Any. */
        | { tag: "all" }
        /** These, in lower case, each once. */
        | { tag: "named"; val: Array<string> };

    /**
     * What a configuration may need of a request. A host that lacks a part, such as the peer's address, can refuse the configuration in place of
     * letting requests go free; one that has to fetch parts before it calls fetches no others.
     */
    export interface Uses {
        /** All but request headers. */
        parts: Parts;
        /** Request headers. */
        headers: HeaderNames;
    }

    /** What becomes of a stream when the filter itself cannot decide, because it trapped or could not be instantiated. */
    export type OnTrap =
        /** It goes on as it is. */
        | "pass"
        /** It is answered 503. */
        | "respond";

    /** What a host has to know of a configuration. */
    export interface Configuration {
        /** The Redis services that calls name by their place here. Empty: this configuration keeps its windows inside the instance. */
        redis: Array<RedisService>;
        /** What it may need of requests and of their responses. */
        uses: Uses;
        /** What becomes of requests while the filter cannot decide. */
        onTrap: OnTrap;
        /**
         * Whether some window may be kept inside the instance: of a part of the configuration without Redis, or while a Redis fails. Such
         * a limit holds for each instance by itself, so a host with several workers lets them share one instance.
         */
        localWindows: boolean;
        /** Oddities that are no errors, each a sentence. */
        warnings: Array<string>;
    }

    /** One mistake in a configuration. */
    export interface ConfigError {
        /** Where, as in `rule_items[0].limit_keys[2].key`. Empty for the whole document. */
        path: string;
        /** What is wrong: the value seen, what was expected, and, for an unknown field, the one that was probably meant. */
        message: string;
    }

    /**
     * Reads a configuration, a JSON document of at most 16 MiB, as a Higress WasmPlugin carries it. Either it is taken as a whole, or every
     * mistake found is returned and nothing changes. A second successful call replaces the configuration and forgets all streams. Of the imports,
     * those of `system` may be called meanwhile.
     * @throws {Array<ConfigError>}
     */
    export function configure(json: Uint8Array, now: types.Moment): Configuration;

    /** The configuration as it was understood, for people: lines of text. Empty before `configure`. */
    export function describe(): string;

    /** A request's headers have arrived. The filter pulls what it needs through `http`. */
    export function onRequest(stream: types.StreamId, now: types.Moment): types.Step;

    /**
     * A piece of the request's body. Pieces come in their order, and begin and end anywhere; trailers are not shown. `end`: no more follows; the bytes
     * may be none. A body that breaks off has no such piece.
     *
     * The upstream may answer before its request ended: with the response's headers, the request's phase is over, and what was kept of it is
     * passed on. What still comes of it is shown if it is watched; then it cannot be answered any more.
     */
    export function onRequestBody(stream: types.StreamId, bytes: Uint8Array, coding: types.Coding, end: boolean, now: types.Moment): types.Step;

    /**
     * The replies to calls of `redis-call`: one as it comes, or several that have come together, in their order. They may settle any number of
     * streams, and lead to further calls. Returns the streams that waited and go on. One that has ended meanwhile, or was answered by
     * `http-response`, does not matter there.
     */
    export function onRedisReplies(replies: Array<redis.CallReply>, now: types.Moment): Array<types.Passing>;

    /** A time that was asked for by `wake-at` has come. Returns those streams that waited and go on. */
    export function onWake(now: types.Moment): Array<types.Passing>;

    /**
     * The response's headers have arrived: the upstream's, or those of an answer that the host gives itself. Not called for an answer of
     * `http-response`. By `http-response` the filter may put another answer in its place.
     */
    export function onResponseHeaders(stream: types.StreamId, head: types.ResponseHead, now: types.Moment): types.Step;

    /** A piece of the response's body, otherwise as of a request's. */
    export function onResponseBody(stream: types.StreamId, bytes: Uint8Array, coding: types.Coding, end: boolean, now: types.Moment): types.Step;

    /**
     * The stream is over. Called for a stream that wants it, and for one that waits. A call that is still on its way for it is
     * answered all the same.
     */
    export function onDone(stream: types.StreamId, ending: types.Ending, now: types.Moment): void;

    /**
     * This instance gets no more requests, and will be let go. The last chance to send what was queued: commands are sent, but what
     * they are answered may not be told. Fetch the metrics after it. A host may leave this out, as it does when an instance traps.
     */
    export function onRetire(now: types.Moment): void;

    /** The metrics of this configuration, in an order that does not change. How many there are depends on the configuration, never on requests. */
    export function metrics(): Array<metrics.Metric>;

    /**
     * What has changed since this was called last, by the metric's place in `metrics`: so that any number of instances, one after the
     * other or beside each other, add up in a host. A host calls it when somebody asks for metrics, now and then besides, since what was not
     * fetched is lost with a trap, and before it lets an instance go.
     */
    export function takeMetrics(): Array<[number, metrics.Change]>;

    /**
     * What this filter would say of a request: which policies, rules, entries, keys and limits it meets. Nothing is decided, counted or remembered;
     * the only imports that are called are the getters of the request.
     *
     * `stream` names a request as in `on-request`, but its id means nothing after this. The first time, `replies` is empty. Whoever wants to know more asks Redis the
     * questions of what is returned, and calls this again for the same request with all replies so far, in the order of their questions, until no question is
     * left: what is asked for a limit may depend on whose session it is.
     */
    export function explain(stream: types.StreamId, replies: Array<Result<redis.Reply, redis.CallError>>, now: types.Moment): explanation.Explanation;
}

/** The request in flight and its response: to look at, and to answer. To let a stream go on, an export returns it. */
export namespace http {
    /**
     * The request's method, as bytes. Empty if there is none.
     *
     * All getters of the request may be called from `on-request` until the stream passes there, be it to wait with its body, or is answered, and by
     * `explain`; after that, and for a stream that is gone, they return nothing (empty, none, false).
     */
    export function method(stream: types.StreamId): Uint8Array;

    /** The request's path with its query, as bytes. Empty if there is none. */
    export function path(stream: types.StreamId): Uint8Array;

    /**
     * The host that the request is for (`:authority`, or the `host` header), as bytes. Empty if there is none. A request without a host is as good as
     * one with an empty host: it is freed of no limit but by a `_match_domain_` that its name would have to match.
     */
    export function authority(stream: types.StreamId): Uint8Array;

    /** `https` or `http`, by which the client asked. Empty if the host does not know. */
    export function scheme(stream: types.StreamId): string;

    /** The first value of a request header. `name` is lower case. For `cookie`, several fields are one value, joined with `; ` (RFC 9113, section 8.2.3). */
    export function header(stream: types.StreamId, name: string): Uint8Array | undefined;

    /** Every value of a request header, in the order received. */
    export function headerValues(stream: types.StreamId, name: string): Array<Uint8Array>;

    /** All header fields of the request, those of one name in the order received. Pseudo headers are not among them. */
    export function headers(stream: types.StreamId): Array<types.Header>;

    /** Whether the request has, or may have, a body. */
    export function hasBody(stream: types.StreamId): boolean;

    /** The client's address as `ip:port`, `[ip]:port` for IPv6. Not trusted to be more than the peer of the connection. */
    export function sourceAddress(stream: types.StreamId): string | undefined;

    /** The name of the route that the host chose, compared with `_match_route_` and `_match_route_prefix_`. Empty if none. */
    export function routeName(stream: types.StreamId): string;

    /** The name of the upstream that the host chose, compared with `_match_service_`: `outbound|port||name`. Empty if none. */
    export function serviceName(stream: types.StreamId): string;

    /**
     * The first value of a response header. `name` is lower case. The getters of the response may be called from `on-response-headers` until the
     * response's headers go on or the stream is answered; after that they return nothing.
     */
    export function responseHeader(stream: types.StreamId, name: string): Uint8Array | undefined;

    /**
     * All header fields of the response, those of one name in the order received. Of those that concern one connection only there are none, but
     * `connection: close` of a response that has no other end than that of its connection: that it is whole nobody can tell.
     */
    export function responseHeaders(stream: types.StreamId): Array<types.Header>;

    /**
     * Answers a stream: in place of the upstream's response, or in place of one that has arrived, the host's own included, as long as its headers have not
     * gone on. The stream is settled with that, and the filter knows nothing of it any more: no hook is called for it, not for this answer either.
     *
     * May be called in any hook, for the hook's own stream or one that waits. The host takes the answer when the current export returns. A stream
     * is answered once: a second call is ignored, and so is one for a stream whose response has begun. In a hook about such a response's body, `respond`
     * then lets what is kept go on, and the filter hears no more of the stream.
     */
    export function httpResponse(stream: types.StreamId, response: types.Response): void;

    /**
     * What a log of requests should say of this stream beside its status, as names and values: `decision` (`refused`, `passed`,
     * `cut` for an answer that the filter ended early, or `unavailable` for a Redis that fails), `rule`, `limit`, `remaining`, `retry_after` (whole seconds),
     * `unit` (`tokens`, if it is not requests that are limited), `degraded` (`mode;cause=...`), `session` (why a session that was brought tells nothing),
     * `session_set` and `cookie_vault` (what became of what a response sets), `cache` (what a cache had to do with the answer).
     *
     * Called while the filter knows the stream; fields of the same name replace those told before. A host without such a log ignores it.
     */
    export function annotate(stream: types.StreamId, fields: Array<[string, string]>): void;
}

/** What a filter counts, for its host to fetch: nothing crosses for a request. */
export namespace metrics {
    /** What a metric does with its values. */
    export type Kind =
        /** Only rises. */
        | { tag: "counter" }
        /** Goes up and down. Of several instances that have the same one, a host shows the sum; an instance that is gone has no share in it. */
        | { tag: "gauge" }
        /** Counts values by their size. These are the buckets' upper bounds, rising, each within its bucket; one bucket more is for what is above them all. */
        | { tag: "histogram"; val: Float64Array };

    /**
     * A metric, named as Prometheus names them, and in Prometheus' base units: seconds, bytes. Two of the same name and labels are one that two parts
     * of the filter count in: what they tell is added up.
     */
    export interface Metric {
        /** What is done with its values. */
        kind: Kind;
        /** As in `slidegate_decisions_total`. */
        name: string;
        /** What it tells, in a sentence; the same for all labels. */
        help: string;
        /** Names and values, in the order in which they are written. */
        labels: Array<[string, string]>;
    }

    /**
     * How many values fell into a bucket of a histogram, and their sum: so that a host whose library takes single values can
     * record the mean so many times, and has both right.
     */
    export interface Bucket {
        /** How many values. */
        count: bigint;
        /** Their sum. */
        sum: number;
    }

    /** What has become of a metric since it was fetched last. */
    export type Change =
        /** It rose by this much. */
        | { tag: "counter"; val: bigint }
        /** It is this now. */
        | { tag: "gauge"; val: number }
        /** These values came, bucket by bucket. */
        | { tag: "histogram"; val: Array<Bucket> };
}

/** Redis, as the filter needs it: one command, one reply, later. */
export namespace redis {
    /** Which Redis a command is for: an index into the list that `filter.configure` returned. */
    export type ServiceIndex = number;

    /** Why a command got no reply. An error *reply* is not one of these: it is a `reply.error`. */
    export type CallError =
        /**
         * The service cannot be reached: name not resolved, connection refused, no healthy address; or more calls are
         * waiting than the host keeps. The command did not run.
         */
        | "connect"
        /** No reply within the service's `timeout-ms`, counted from the call. The command may still have run. */
        | "timeout"
        /** The connection was lost while the command was on its way. The command may have run. */
        | "disconnected"
        /** The bytes that came back are not a reply, or one that cannot be said here, as with an array in an array. The command may have run. */
        | "protocol"
        /** The service index is not one that `configure` returned. The command did not run. */
        | "unknown-service"
        /** The command is one that a host may refuse, and this one does. The command did not run. */
        | "refused"
        /** The reply is larger than the host takes, and was read over: other calls are answered as ever. The command has run. */
        | "too-large";

    /**
     * One element of a flattened reply. What the filter sends is answered with one value, as its scripts are, or with a flat list of them, and
     * nothing needs more depth than this: a nested array is refused by the host as `call-error.protocol`.
     */
    export type Value =
        /** There is none: RESP's null. */
        | { tag: "nil" }
        /** A whole number. */
        | { tag: "integer"; val: bigint }
        /** A bulk string: any bytes. */
        | { tag: "bulk"; val: Uint8Array }
        /** A simple string, such as `OK`. */
        | { tag: "status"; val: string };

    /** A complete reply. */
    export type Reply =
        /** A reply that is not an array. */
        | { tag: "single"; val: Value }
        /** A flat array. */
        | { tag: "many"; val: Array<Value> }
        /**
         * An error reply as Redis wrote it, with its code first, as in `NOSCRIPT No matching script`. A host whose client library takes the code off
         * puts it back: what the filter does depends on it.
         */
        | { tag: "error"; val: string };

    /** A command, in two pieces of memory whatever it has for arguments. */
    export interface Command {
        /** Its words, which are its name and its arguments, one behind the other with nothing between. */
        bytes: Uint8Array;
        /** How many bytes each word has, the name first: `[4, 1]` with the bytes `INCRa`. Never empty; together they are as long as `bytes`. */
        lengths: Uint32Array;
    }

    /** A reply to a call. */
    export interface CallReply {
        /** Which, by the id that `redis-call` returned. */
        call: types.CallId;
        /** What Redis replied, or why it did not. */
        reply: Result<Reply, CallError>;
    }

    /**
     * Sends one command, without waiting.
     *
     * Asked of the host: the command runs at most once (no retry after it may have been sent) and on its own (not
     * inside somebody's MULTI). Atomicity is Redis': a script runs alone. Every accepted call is answered exactly once, by `filter.on-redis-replies`, never
     * before this returns, even if the stream it was made for has ended. On an outage the host answers with a `call-error`, at the
     * latest after `timeout-ms`; deciding what becomes of the request is the filter's part.
     *
     * Calls may overtake one another, also those of one service: a host may have several connections. A filter that needs an
     * order waits for the reply of the first.
     *
     * Connections are shared, with other calls and perhaps with other programs. So a host may refuse, and Slidegate's own refuses, what changes a
     * connection, keeps it, or turns its replies into something else than one for each command:
     * - whose it is: AUTH, HELLO, SELECT, CLIENT, RESET, QUIT, ASKING, READONLY, READWRITE;
     * - transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH;
     * - streams of messages: SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE and their opposites, MONITOR, SYNC, PSYNC, REPLCONF;
     * - what waits: BLPOP, BRPOP, BLMOVE, BLMPOP, BRPOPLPUSH, BZPOPMIN, BZPOPMAX, BZMPOP, WAIT, WAITAOF, and XREAD and XREADGROUP with BLOCK.
     * @throws {CallError}
     */
    export function redisCall(service: ServiceIndex, command: Command): types.CallId;
}

/** What a filter cannot do alone: be heard, be woken, be surprised. */
export namespace system {
    /** How much a line matters. */
    export type Level =
        /** Only to whoever looks for a mistake. */
        | "debug"
        /** A change that is nobody's fault. */
        | "info"
        /** Something is wrong, and requests are decided all the same. */
        | "warn"
        /** Something is wrong that somebody has to mend. */
        | "error";

    /** One line, without a line end. The filter logs changes of state, not requests. */
    export function log(level: Level, message: string): void;

    /**
     * Asks for `filter.on-wake` at this time or soon after. Of several times asked for, the earliest counts; with the wake-up all of
     * them are used up. A time that is over means at once, after the current export; asked for in `on-wake`, it means soon, when whatever else the
     * host does has had its turn. Slidegate's own waits a millisecond then, unless it calls the filter for something else before. How exact it is
     * depends on the host: some tick every tenth of a second, or slower. A host that cannot wake at all calls `on-wake` when it is called for something else anyhow.
     */
    export function wakeAt(at: types.MonotonicNs): void;

    /** So many bytes that nobody can guess, at most 1,024. */
    export function randomBytes(len: number): Uint8Array;
}

/** Values that both sides of the contract share. */
export namespace types {
    /**
     * One request and its response, named by the host. A host never gives the id of a stream that the filter may still know to another one;
     * it may reuse the id afterwards. The filter knows a stream until `on-done`, and until it passed or was answered if no `on-done` follows.
     */
    export type StreamId = bigint;

    /**
     * One Redis command on its way, named by the host when it accepted the command. Unique among the calls
     * of an instance that have not been answered.
     */
    export type CallId = bigint;

    /**
     * Nanoseconds on a clock that never runs backwards and has no meaning outside this instance.
     * Windows kept in Redis do not use it: there, Redis' own clock counts.
     */
    export type MonotonicNs = bigint;

    /** Nanoseconds since 1970-01-01 00:00 UTC, as the machine believes. It may step, back too. 0 for a host that does not know. */
    export type WallNs = bigint;

    /** One moment, on both clocks. */
    export interface Moment {
        /** For how long things take. */
        monotonic: MonotonicNs;
        /** For dates. */
        wall: WallNs;
    }

    /** A header field. Names are lower case. Values are bytes, because HTTP allows more than UTF-8. */
    export interface Header {
        /** In lower case. */
        name: string;
        /** Without white space around it. */
        value: Uint8Array;
    }

    /** One change to a set of header fields, applied in the order given. A host leaves out a change whose name or value HTTP does not allow. */
    export type HeaderEdit =
        /** Removes every field of this name, then adds this one. */
        | { tag: "set"; val: Header }
        /** Adds a field beside those of the same name. */
        | { tag: "append"; val: Header }
        /** Removes every field of this name. No such field is no error. */
        | { tag: "remove"; val: string };

    /** An answer that the filter gives in place of the upstream's. */
    export interface Response {
        /**
         * The HTTP status code as configured; normally 100 to 599. A host that cannot send the number
         * answers 500 and logs it.
         */
        status: number;
        /**
         * The host adds `content-length`, and `content-type: text/plain` when the body is not empty and
         * no `content-type` is given here. With an `age` it is a response that was kept, as its upstream said it: to
         * that no `content-type` is added.
         */
        headers: Array<Header>;
        /** All of it; it may be empty. */
        body: Uint8Array;
        /** Why, for the access log, as `plugin.reason` without spaces. Never sent to the client. */
        details: string;
    }

    /** How much of a body the filter wants to see. A body that nobody wants to see does not pass through the filter at all. */
    export type Interest =
        /** Nothing. */
        | "none"
        /** A copy of each piece. It goes on at once: whatever the hook returns, it changes nothing of this body, and the host need not wait for it. */
        | "watch"
        /** Each piece before it goes on: the hook may keep it, replace it, end the body there, or answer the client instead. */
        | "hold"
        /** As `watch`, but as it is on its way: the host takes no content coding off. */
        | "copy";

    /** What a stream still wants of its host. It holds from the moment it is given until another one is given for the same stream. */
    export interface Wants {
        /**
         * The request's body, by `on-request-body`. With `hold`, the request's headers wait too, until a first piece goes on or the body is known
         * to be empty: until then, hooks may change them. A host that cannot keep headers back sends them at once. What is kept is bounded by the
         * host; a request above that is answered 413.
         */
        requestBody: Interest;
        /** `on-response-headers`. */
        responseHeaders: boolean;
        /**
         * The response's body, by `on-response-body`. Of a response to be held, the host removes `content-length`, as its length is not known before
         * its end. What is kept is bounded by the host; a response above that is broken off.
         */
        responseBody: Interest;
        /** `on-done`. */
        done: boolean;
    }

    /**
     * A change at one place of the pieces of a body that are kept: behind so many bytes of them, so many go, and these come in their place. What is
     * beyond their end does not go, and what comes there stands at their end.
     */
    export interface Splice {
        /** Behind so many bytes. */
        at: number;
        /** So many bytes go. */
        removed: number;
        /** These come. */
        bytes: Uint8Array;
    }

    /**
     * What becomes of the pieces of a body that are kept, the one that the hook is about included. In a hook that is not about a body that is
     * held it means nothing.
     */
    export type BodyChange =
        /** They go on as they are. */
        | { tag: "keep" }
        /** These bytes go on in their place. */
        | { tag: "replace"; val: Uint8Array }
        /**
         * These bytes go on in their place, and the body ends with them, regularly. What still comes of it is dropped, and no hook is called
         * for it; of a response, the upstream is let go.
         */
        | { tag: "end"; val: Uint8Array }
        /** They go on with this change. */
        | { tag: "splice"; val: Splice };

    /** A stream goes on. */
    export interface Pass {
        /** Changes to the request's headers. Once the request's headers went on, they mean nothing. */
        requestEdits: Array<HeaderEdit>;
        /**
         * Changes to the response's headers, also to those of a response that is still to come: the host keeps them, and applies them, in the order
         * given, to whatever response its client gets, be it the upstream's, the host's own (no upstream could be reached), or one of
         * `http-response`, before `on-response-headers` shows it. Once the response's headers went on, they mean nothing.
         */
        responseEdits: Array<HeaderEdit>;
        /** What becomes of what is kept of the body that the hook is about. */
        body: BodyChange;
        /** What it still wants of the host. */
        wants: Wants;
    }

    /** What becomes of the stream that a hook was called for. */
    export type Step =
        /**
         * It goes on, with these changes; without them as it is, wanting nothing more. If it wants nothing more, the filter knows nothing of it any
         * more, and no hook is called for it.
         */
        | { tag: "pass"; val: Pass | undefined }
        /**
         * It waits. A later export returns it among those that go on, or answers it by `http-response`. A stream that ends while it waits
         * gets `on-done`, whether it wanted that or not. Of a body: this piece is kept with those kept before; the next one is shown all the same.
         */
        | { tag: "wait" }
        /** `http-response` was called for this stream, in this hook. To return this without having called it is a fault, as a trap is. */
        | { tag: "respond" };

    /** A stream that waited goes on. */
    export interface Passing {
        /** Which. */
        stream: StreamId;
        /** As in `step`. */
        pass?: Pass;
    }

    /** How the bytes of a piece of a body are related to the body on its way. */
    export type Coding =
        /** The body has no content coding. These are its bytes. */
        | "identity"
        /**
         * The body has a content coding, and the host took it off to show it: the bytes on their way are others. Of a body that is watched, and of a request's
         * that is held; if what is kept of that is replaced or ended, the host takes `content-encoding` off the request's headers; a splice of it means nothing.
         */
        | "decoded"
        /**
         * The body has a content coding. These are its bytes, encoded: the host knows no better, or it is held. If what is being decoded turns out not to be
         * what it claims, or to grow out of all proportion, this is what the rest is shown as.
         */
        | "encoded";

    /** How a stream ended. */
    export type Ending =
        /** With the last byte of its response, or of as much of it as the filter let go on. */
        | "whole"
        /** The client left before that; or the host does not know who did. */
        | "client"
        /** The upstream broke its response off, or none came of it and the host answered. */
        | "upstream";

    /** Who made a response. */
    export type Origin =
        /** The upstream. */
        | "upstream"
        /**
         * The host, because there is none of the upstream's: it could not be reached, broke off before its response began, or was too slow; or the
         * request is one that the host does not serve.
         */
        | "host";

    /** A response whose headers have arrived. */
    export interface ResponseHead {
        /** The HTTP status code. */
        status: number;
        /** Who made it. */
        origin: Origin;
        /** It has no body. */
        end: boolean;
    }
}

/** What a host gives to the component. Some versions of jco want `@` and the version behind a name. */
export interface Imports {
    "slidegate:filter/redis": typeof redis;
    "slidegate:filter/http": typeof http;
    "slidegate:filter/system": typeof system;
}

/** What a host gets of the component. */
export interface Exports {
    filter: typeof filter;
}
