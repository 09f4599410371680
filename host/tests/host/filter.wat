;; A filter of a few hundred bytes that does what its host's tests need, good and bad. It keeps the
;; contract of wit/ by hand: canonical ABI, flat parameters, results through a return pointer.
;;
;; Configuration: the first byte is `p` or `r` for on-trap pass or respond, `e` for a configuration
;; error, `t` for a trap. A second byte `h` makes streams that pass want all hooks and hold bodies, `w` the same but watch them,
;; `b` hold requests' bodies and want nothing else. With `a` it asks to be woken at once, and each time it is woken sends a command and asks again.
;; They may also stand in an object: `{"m":"ph"}`.
;;
;; Requests, by the byte after the slash of the path:
;;   p pass               e pass, with an edit of the request        d pass, with an edit of the response
;;   r respond with 429   w wait for Redis     c wait, for ever      x say `respond` without an answer
;;   u trap               l run for ever       m allocate until it fails, then trap
;;   2 answer twice       o answer streams that do not exist
;;   s two calls, in order                     k call a service that is not configured
;;   a wait for the time to come, at once      n say nothing of it, and have a command refused
;;
;; A reply settles the stream of its call, twice, and the second time differently: +status passes,
;; anything else from Redis answers 503, no reply answers 504. Answers are annotated: why=no.
;;
;; A piece of a body: `R` is replaced, `E` ends the body, `X` answers 418, another one of more than one byte passes, a shorter one waits: at the end for
;; Redis, before for ever. `W` waits for ever, and `A` passes, annotated: why=yes, rule=yes.
;; A response with status 599 traps, one with 502 is answered 418 in its place, and one with 598 waits for Redis.
;;
;; One metric counts requests, and another would count bytes. The end of a stream is said in the log, with a digit for how it ended (whole, client, upstream).
(module
  (import "slidegate:filter/redis@0.2.0" "redis-call"
    (func $redis_call (param i32 i32 i32 i32 i32 i32)))
  (import "slidegate:filter/http@0.2.0" "path"
    (func $path (param i64 i32)))
  (import "slidegate:filter/http@0.2.0" "http-response"
    (func $http_response (param i64 i32 i32 i32 i32 i32 i32 i32)))
  (import "slidegate:filter/http@0.2.0" "annotate"
    (func $annotate (param i64 i32 i32)))
  (import "slidegate:filter/system@0.2.0" "log"
    (func $log (param i32 i32 i32)))
  (import "slidegate:filter/system@0.2.0" "wake-at"
    (func $wake_at (param i64)))

  (memory (export "memory") 2)

  ;; 0..64: return pointers. 64..: constants. 512: a step. 576: passing streams, two of 48 bytes. 704: changes of metrics, one of 24 bytes.
  ;; 1024: the Redis service. 1088: the stream that waits for time. 4096: stream by call. 36864: passing streams, two for each of at most 256 replies.
  (data (i32.const 64) "redis.test")
  (data (i32.const 80) "PING")
  (data (i32.const 96) "x-edited")
  (data (i32.const 112) "yes")
  (data (i32.const 128) "bad.path")
  (data (i32.const 144) "is bad")
  (data (i32.const 160) "fixture.refused")
  (data (i32.const 176) "no")
  (data (i32.const 192) "first\nsecond")
  ;; The lengths of a command's words: one, of 4 bytes.
  (data (i32.const 208) "\04\00\00\00")
  ;; A header-edit: set(header { name, value }).
  (data (i32.const 224) "\00\00\00\00\60\00\00\00\08\00\00\00\70\00\00\00\03\00\00\00")
  ;; An annotation list<tuple<string, string>>: why, no.
  (data (i32.const 244) "why")
  (data (i32.const 276) "\f4\00\00\00\03\00\00\00\b0\00\00\00\02\00\00\00")
  ;; A command that no host sends: SELECT.
  (data (i32.const 300) "SELECT")
  (data (i32.const 308) "\06\00\00\00")
  (data (i32.const 320) "fixture_requests_total")
  (data (i32.const 344) "Requests")
  (data (i32.const 400) "over ")
  ;; A config-error: path, message.
  (data (i32.const 256) "\80\00\00\00\08\00\00\00\90\00\00\00\06\00\00\00")
  ;; A redis-service: name 64/10, port 6379, no credentials, 200 ms, database 0.
  (data (i32.const 1024) "\40\00\00\00\0a\00\00\00\eb\18\00\00\01\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\c8\00\00\00\00\00\00\00")

  ;; Two annotations: why, yes, and rule, yes.
  (data (i32.const 1200) "rule")
  (data (i32.const 1216) "\f4\00\00\00\03\00\00\00\70\00\00\00\03\00\00\00\b0\04\00\00\04\00\00\00\70\00\00\00\03\00\00\00")
  ;; Two metrics: a counter, its name, its help, no labels; a histogram with the bounds 1 and 10.
  (data (i32.const 1248) "\00\00\00\00\00\00\f0\3f\00\00\00\00\00\00\24\40")
  (data (i32.const 1264) "\00\00\00\00\00\00\00\00\00\00\00\00\40\01\00\00\16\00\00\00\58\01\00\00\08\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 1300) "\02\00\00\00\e0\04\00\00\02\00\00\00\40\05\00\00\0d\00\00\00\50\05\00\00\05\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 1344) "fixture_bytes")
  (data (i32.const 1360) "Bytes")

  (global $top (mut i32) (i32.const 65536))
  ;; What streams that pass want: request body, response headers, response body, done; a byte each.
  (global $wants (mut i32) (i32.const 0))
  (global $wakes (mut i32) (i32.const 0))
  (global $requests (mut i64) (i64.const 0))

  ;; Bump allocation, starting over when the second page is used up: what a call gets is gone by then.
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.const 131072))
      (then (local.set $at (i32.const 65536))))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "slidegate:filter/filter@0.2.0#configure") (param $json i32) (param $len i32) (param $now i64) (param i64) (result i32)
    (local $first i32)
    (if (i32.eq (i32.load8_u (local.get $json)) (i32.const 0x7b))
      (then (local.set $json (i32.add (local.get $json) (i32.const 6)))))
    (local.set $first (i32.load8_u (local.get $json)))
    (call $log (i32.const 1) (i32.const 192) (i32.const 12))
    (if (i32.eq (local.get $first) (i32.const 0x74)) (then unreachable))
    (if (i32.eq (local.get $first) (i32.const 0x65))
      (then
        (i32.store (i32.const 0) (i32.const 1))
        (i32.store (i32.const 4) (i32.const 256))
        (i32.store (i32.const 8) (i32.const 1))
        (return (i32.const 0))))
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 1024))
    (i32.store (i32.const 8) (i32.const 1))
    (i32.store16 (i32.const 12) (i32.const 2))
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store (i32.const 20) (i32.const 16))
    (i32.store (i32.const 24) (i32.const 0))
    (i32.store8 (i32.const 28) (i32.eq (local.get $first) (i32.const 0x72)))
    (i32.store8 (i32.const 29) (i32.const 0))
    (i32.store (i32.const 32) (i32.const 16))
    (i32.store (i32.const 36) (i32.const 0))
    (global.set $wants (i32.const 0))
    (if (i32.gt_u (local.get $len) (i32.const 1))
      (then
        (local.set $first (i32.load8_u offset=1 (local.get $json)))
        (if (i32.eq (local.get $first) (i32.const 0x68)) (then (global.set $wants (i32.const 0x01020102))))
        (if (i32.eq (local.get $first) (i32.const 0x77)) (then (global.set $wants (i32.const 0x01010101))))
        (if (i32.eq (local.get $first) (i32.const 0x62)) (then (global.set $wants (i32.const 2))))
        (if (i32.eq (local.get $first) (i32.const 0x61))
          (then
            (global.set $wakes (i32.const 1))
            (call $wake_at (local.get $now))))))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 10))
    (i32.const 0))

  ;; Writes a pass: edits of the request, of the response, what becomes of a body, whose bytes are `no`.
  (func $pass (param $at i32) (param $request i32) (param $response i32) (param $body i32)
    (i32.store (local.get $at) (i32.const 224))
    (i32.store offset=4 (local.get $at) (local.get $request))
    (i32.store offset=8 (local.get $at) (i32.const 224))
    (i32.store offset=12 (local.get $at) (local.get $response))
    (i32.store offset=16 (local.get $at) (local.get $body))
    (i32.store offset=20 (local.get $at) (i32.const 176))
    (i32.store offset=24 (local.get $at) (i32.const 2))
    (i32.store offset=36 (local.get $at) (global.get $wants)))

  (func $passed (param $request i32) (param $response i32) (param $body i32) (result i32)
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (i32.const 1))
    (call $pass (i32.const 520) (local.get $request) (local.get $response) (local.get $body))
    (i32.const 512))

  (func $waits (result i32)
    (i32.store (i32.const 512) (i32.const 1))
    (i32.const 512))

  (func $responded (result i32)
    (i32.store (i32.const 512) (i32.const 2))
    (i32.const 512))

  ;; Waits, if a call was made; else passes.
  (func $waits_if (param $called i32) (result i32)
    (if (result i32) (local.get $called)
      (then (call $waits))
      (else (call $passed (i32.const 0) (i32.const 0) (i32.const 0)))))

  ;; Writes that this stream passes, twice, the first time with an edit.
  (func $passing_at (param $at i32) (param $stream i64)
    (i64.store (local.get $at) (local.get $stream))
    (i32.store offset=8 (local.get $at) (i32.const 1))
    (call $pass (i32.add (local.get $at) (i32.const 12)) (i32.const 1) (i32.const 0) (i32.const 0))
    (i64.store offset=56 (local.get $at) (local.get $stream))
    (i32.store offset=64 (local.get $at) (i32.const 1))
    (call $pass (i32.add (local.get $at) (i32.const 68)) (i32.const 0) (i32.const 0) (i32.const 0)))

  ;; A list of passing streams: this one, so many times, the first time with an edit.
  (func $passing (param $stream i64) (param $times i32) (result i32)
    (call $passing_at (i32.const 576) (local.get $stream))
    (i32.store (i32.const 0) (i32.const 576))
    (i32.store (i32.const 4) (local.get $times))
    (i32.const 0))

  (func $respond (param $stream i64) (param $status i32)
    (call $annotate (local.get $stream) (i32.const 276) (i32.const 1))
    (call $http_response (local.get $stream) (local.get $status)
      (i32.const 16) (i32.const 0)
      (i32.const 176) (i32.const 2)
      (i32.const 160) (i32.const 15)))

  (func $ping (param $stream i64) (param $service i32) (result i32)
    (call $redis_call (local.get $service) (i32.const 80) (i32.const 4) (i32.const 208) (i32.const 1) (i32.const 32))
    (if (i32.load8_u (i32.const 32)) (then (return (i32.const 0))))
    (i64.store
      (i32.add (i32.const 4096)
        (i32.mul (i32.and (i32.load (i32.const 40)) (i32.const 4095)) (i32.const 8)))
      (local.get $stream))
    (i32.const 1))

  (func (export "slidegate:filter/filter@0.2.0#on-request") (param $stream i64) (param $now i64) (param i64) (result i32)
    (local $kind i32)
    (global.set $requests (i64.add (global.get $requests) (i64.const 1)))
    (call $path (local.get $stream) (i32.const 0))
    (local.set $kind (i32.load8_u offset=1 (i32.load (i32.const 0))))
    (if (i32.eq (local.get $kind) (i32.const 0x65))
      (then (return (call $passed (i32.const 1) (i32.const 0) (i32.const 0)))))
    (if (i32.eq (local.get $kind) (i32.const 0x64))
      (then (return (call $passed (i32.const 0) (i32.const 1) (i32.const 0)))))
    (if (i32.eq (local.get $kind) (i32.const 0x72))
      (then
        (call $respond (local.get $stream) (i32.const 429))
        (return (call $responded))))
    (if (i32.eq (local.get $kind) (i32.const 0x77))
      (then (return (call $waits_if (call $ping (local.get $stream) (i32.const 0))))))
    (if (i32.eq (local.get $kind) (i32.const 0x73))
      (then
        (drop (call $ping (local.get $stream) (i32.const 0)))
        (return (call $waits_if (call $ping (local.get $stream) (i32.const 0))))))
    (if (i32.eq (local.get $kind) (i32.const 0x6b))
      (then (return (call $waits_if (call $ping (local.get $stream) (i32.const 7))))))
    (if (i32.eq (local.get $kind) (i32.const 0x6e))
      (then (call $redis_call (i32.const 0) (i32.const 300) (i32.const 6) (i32.const 308) (i32.const 1) (i32.const 32))))
    (if (i32.eq (local.get $kind) (i32.const 0x61))
      (then
        (i64.store (i32.const 1088) (local.get $stream))
        (call $wake_at (local.get $now))
        (return (call $waits))))
    (if (i32.eq (local.get $kind) (i32.const 0x63)) (then (return (call $waits))))
    (if (i32.eq (local.get $kind) (i32.const 0x78)) (then (return (call $responded))))
    (if (i32.eq (local.get $kind) (i32.const 0x75)) (then unreachable))
    (if (i32.eq (local.get $kind) (i32.const 0x6c)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $kind) (i32.const 0x6d))
      (then
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        unreachable))
    (if (i32.eq (local.get $kind) (i32.const 0x32))
      (then
        (call $respond (local.get $stream) (i32.const 429))
        (call $respond (local.get $stream) (i32.const 500))))
    (if (i32.eq (local.get $kind) (i32.const 0x6f))
      (then (call $respond (i64.add (local.get $stream) (i64.const 1000)) (i32.const 429))))
    (call $passed (i32.const 0) (i32.const 0) (i32.const 0)))

  ;; A reply has 40 bytes: the call, at 8 whether it failed, at 16 the kind of reply, at 24 the kind of value.
  (func (export "slidegate:filter/filter@0.2.0#on-redis-replies")
    (param $reply i32) (param $count i32) (param i64 i64) (result i32)
    (local $stream i64)
    (local $passing i32)
    (local.set $passing (i32.const 36864))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $stream (i64.load
          (i32.add (i32.const 4096)
            (i32.mul (i32.and (i32.load (local.get $reply)) (i32.const 4095)) (i32.const 8)))))
        (if (i32.load8_u offset=8 (local.get $reply))
          (then (call $respond (local.get $stream) (i32.const 504)))
          (else
            (if (i32.or (i32.load8_u offset=16 (local.get $reply)) (i32.ne (i32.load8_u offset=24 (local.get $reply)) (i32.const 3)))
              (then
                (call $respond (local.get $stream) (i32.const 503))
                (call $respond (local.get $stream) (i32.const 500))))))
        (call $passing_at (local.get $passing) (local.get $stream))
        (local.set $passing (i32.add (local.get $passing) (i32.const 112)))
        (local.set $reply (i32.add (local.get $reply) (i32.const 40)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (i32.const 0) (i32.const 36864))
    (i32.store (i32.const 4) (i32.div_u (i32.sub (local.get $passing) (i32.const 36864)) (i32.const 56)))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#on-wake") (param $now i64) (param i64) (result i32)
    (if (global.get $wakes)
      (then
        (drop (call $ping (i64.const 0) (i32.const 0)))
        (call $wake_at (local.get $now))
        (return (call $passing (i64.const 0) (i32.const 0)))))
    (call $passing (i64.load (i32.const 1088)) (i32.const 1)))

  (func (export "slidegate:filter/filter@0.2.0#on-response-headers")
    (param $stream i64) (param $status i32) (param $origin i32) (param $end i32) (param i64 i64) (result i32)
    (if (i32.eq (local.get $status) (i32.const 599)) (then unreachable))
    (if (i32.eq (local.get $status) (i32.const 598)) (then (return (call $waits_if (call $ping (local.get $stream) (i32.const 0))))))
    (if (i32.eq (local.get $status) (i32.const 502))
      (then
        (call $respond (local.get $stream) (i32.const 418))
        (return (call $responded))))
    (call $passed (i32.const 0) (i32.const 1) (i32.const 0)))

  (func $body (param $stream i64) (param $bytes i32) (param $len i32) (param $end i32) (result i32)
    (local $kind i32)
    (if (local.get $len) (then (local.set $kind (i32.load8_u (local.get $bytes)))))
    (if (i32.eq (local.get $kind) (i32.const 0x52)) (then (return (call $passed (i32.const 0) (i32.const 0) (i32.const 1)))))
    (if (i32.eq (local.get $kind) (i32.const 0x45)) (then (return (call $passed (i32.const 0) (i32.const 0) (i32.const 2)))))
    (if (i32.eq (local.get $kind) (i32.const 0x57)) (then (return (call $waits))))
    (if (i32.eq (local.get $kind) (i32.const 0x41)) (then (call $annotate (local.get $stream) (i32.const 1216) (i32.const 2))))
    (if (i32.eq (local.get $kind) (i32.const 0x58))
      (then
        (call $respond (local.get $stream) (i32.const 418))
        (return (call $responded))))
    (if (i32.gt_u (local.get $len) (i32.const 1)) (then (return (call $passed (i32.const 0) (i32.const 0) (i32.const 0)))))
    (if (local.get $end) (then (return (call $waits_if (call $ping (local.get $stream) (i32.const 0))))))
    (call $waits))

  (func (export "slidegate:filter/filter@0.2.0#on-request-body")
    (param $stream i64) (param $bytes i32) (param $len i32) (param $coding i32) (param $end i32) (param i64 i64) (result i32)
    (call $body (local.get $stream) (local.get $bytes) (local.get $len) (local.get $end)))

  (func (export "slidegate:filter/filter@0.2.0#on-response-body")
    (param $stream i64) (param $bytes i32) (param $len i32) (param $coding i32) (param $end i32) (param i64 i64) (result i32)
    (call $body (local.get $stream) (local.get $bytes) (local.get $len) (local.get $end)))

  (func (export "slidegate:filter/filter@0.2.0#on-done") (param i64) (param $ending i32) (param i64 i64)
    (i32.store8 (i32.const 405) (i32.add (i32.const 48) (local.get $ending)))
    (call $log (i32.const 1) (i32.const 400) (i32.const 6)))

  ;; Sends a last command.
  (func (export "slidegate:filter/filter@0.2.0#on-retire") (param i64 i64)
    (drop (call $ping (i64.const 0) (i32.const 0))))

  (func (export "slidegate:filter/filter@0.2.0#metrics") (result i32)
    (i32.store (i32.const 0) (i32.const 1264))
    (i32.store (i32.const 4) (i32.const 2))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#take-metrics") (result i32)
    (i32.store (i32.const 0) (i32.const 704))
    (i32.store (i32.const 4) (i64.ne (global.get $requests) (i64.const 0)))
    (i32.store (i32.const 704) (i32.const 0))
    (i32.store (i32.const 712) (i32.const 0))
    (i64.store (i32.const 720) (global.get $requests))
    (global.set $requests (i64.const 0))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#explain") (param i64 i32 i32 i64 i64) (result i32)
    (i64.store (i32.const 0) (i64.const 0))
    (i64.store (i32.const 8) (i64.const 0))
    (i32.const 0)))
