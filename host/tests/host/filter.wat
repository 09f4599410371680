;; A filter of a few hundred bytes that does what its host's tests need, good and bad. It keeps the
;; contract of wit/ by hand: canonical ABI, flat parameters, results through a return pointer.
;;
;; Configuration: the first byte is `p` or `r` for on-trap pass or refuse, `e` for a configuration
;; error, `t` for a trap. A second byte `h` asks for all hooks.
;;
;; Requests, by the byte after the slash of the path:
;;   p pass               e pass, with one header edit     r respond with 429
;;   w wait for Redis     c wait, for ever                 x say `respond` without an answer
;;   u trap               l run for ever                   m allocate until it fails, then trap
;;   2 answer twice       o settle streams that do not exist
;;   s two calls, in order                                 k call a service that is not configured
;;
;; A reply settles the stream of its call, twice, and the second time differently: +status passes,
;; anything else from Redis answers 503, no reply answers 504. Answers are annotated: why=no.
(module
  (import "slidegate:filter/redis@0.1.0" "redis-call"
    (func $redis_call (param i32 i32 i32 i32)))
  (import "slidegate:filter/http@0.1.0" "path"
    (func $path (param i64 i32)))
  (import "slidegate:filter/http@0.1.0" "http-response"
    (func $http_response (param i64 i32 i32 i32 i32 i32 i32 i32)))
  (import "slidegate:filter/http@0.1.0" "http-continue"
    (func $http_continue (param i64 i32 i32)))
  (import "slidegate:filter/http@0.1.0" "annotate"
    (func $annotate (param i64 i32 i32)))
  (import "slidegate:filter/telemetry@0.1.0" "log"
    (func $log (param i32 i32 i32)))

  (memory (export "memory") 2)

  ;; 0..64: return pointers. 64..: constants. 1024: the Redis service. 4096: stream by call.
  (data (i32.const 64) "redis.test")
  (data (i32.const 80) "PING")
  (data (i32.const 96) "x-edited")
  (data (i32.const 112) "yes")
  (data (i32.const 128) "bad.path")
  (data (i32.const 144) "is bad")
  (data (i32.const 160) "fixture.refused")
  (data (i32.const 176) "no")
  (data (i32.const 192) "first\nsecond")
  ;; The command list<list<u8>>: one element, at 80, of 4 bytes.
  (data (i32.const 208) "\50\00\00\00\04\00\00\00")
  ;; A header-edit: set(header { name, value }).
  (data (i32.const 224) "\00\00\00\00\60\00\00\00\08\00\00\00\70\00\00\00\03\00\00\00")
  ;; An annotation list<tuple<string, string>>: why, no.
  (data (i32.const 244) "why")
  (data (i32.const 276) "\f4\00\00\00\03\00\00\00\b0\00\00\00\02\00\00\00")
  ;; A config-error: path, message.
  (data (i32.const 256) "\80\00\00\00\08\00\00\00\90\00\00\00\06\00\00\00")
  ;; A redis-service: name 64/10, port 6379, no credentials, 200 ms, database 0.
  (data (i32.const 1024) "\40\00\00\00\0a\00\00\00\eb\18\00\00\01\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\c8\00\00\00\00\00\00\00")

  (global $top (mut i32) (i32.const 65536))
  (global $hooks (mut i32) (i32.const 0))

  ;; Bump allocation, starting over when the second page is used up: what a call gets is gone by then.
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.const 131072))
      (then (local.set $at (i32.const 65536))))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "slidegate:filter/filter@0.1.0#configure") (param $json i32) (param $len i32) (result i32)
    (local $first i32)
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
    (i32.store8 (i32.const 12)
      (select (i32.const 7) (i32.const 0)
        (i32.and (i32.gt_u (local.get $len) (i32.const 1))
          (i32.eq (i32.load8_u offset=1 (local.get $json)) (i32.const 0x68)))))
    (i32.store8 (i32.const 13) (i32.eq (local.get $first) (i32.const 0x72)))
    (i32.store8 (i32.const 14) (i32.const 0))
    (i32.store (i32.const 16) (i32.const 16))
    (i32.store (i32.const 20) (i32.const 0))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.1.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 10))
    (i32.const 0))

  (func $respond (param $stream i64) (param $status i32)
    (call $annotate (local.get $stream) (i32.const 276) (i32.const 1))
    (call $http_response (local.get $stream) (local.get $status)
      (i32.const 16) (i32.const 0)
      (i32.const 176) (i32.const 2)
      (i32.const 160) (i32.const 15)))

  (func $ping (param $stream i64) (param $service i32) (result i32)
    (call $redis_call (local.get $service) (i32.const 208) (i32.const 1) (i32.const 32))
    (if (i32.load8_u (i32.const 32)) (then (return (i32.const 0))))
    (i64.store
      (i32.add (i32.const 4096)
        (i32.mul (i32.and (i32.load (i32.const 40)) (i32.const 4095)) (i32.const 8)))
      (local.get $stream))
    (i32.const 1))

  (func (export "slidegate:filter/filter@0.1.0#on-request") (param $stream i64) (param $now i64) (result i32)
    (local $kind i32)
    (call $path (local.get $stream) (i32.const 0))
    (local.set $kind (i32.load8_u offset=1 (i32.load (i32.const 0))))
    (if (i32.eq (local.get $kind) (i32.const 0x70)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $kind) (i32.const 0x65))
      (then
        (call $http_continue (local.get $stream) (i32.const 224) (i32.const 1))
        (return (i32.const 0))))
    (if (i32.eq (local.get $kind) (i32.const 0x72))
      (then
        (call $respond (local.get $stream) (i32.const 429))
        (return (i32.const 2))))
    (if (i32.eq (local.get $kind) (i32.const 0x77))
      (then (return (call $ping (local.get $stream) (i32.const 0)))))
    (if (i32.eq (local.get $kind) (i32.const 0x73))
      (then
        (drop (call $ping (local.get $stream) (i32.const 0)))
        (return (call $ping (local.get $stream) (i32.const 0)))))
    (if (i32.eq (local.get $kind) (i32.const 0x6b))
      (then (return (call $ping (local.get $stream) (i32.const 7)))))
    (if (i32.eq (local.get $kind) (i32.const 0x63)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $kind) (i32.const 0x78)) (then (return (i32.const 2))))
    (if (i32.eq (local.get $kind) (i32.const 0x75)) (then unreachable))
    (if (i32.eq (local.get $kind) (i32.const 0x6c)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $kind) (i32.const 0x6d))
      (then
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        unreachable))
    (if (i32.eq (local.get $kind) (i32.const 0x32))
      (then
        (call $respond (local.get $stream) (i32.const 429))
        (call $respond (local.get $stream) (i32.const 500))
        (call $http_continue (local.get $stream) (i32.const 224) (i32.const 1))
        (return (i32.const 2))))
    (if (i32.eq (local.get $kind) (i32.const 0x6f))
      (then
        (call $respond (i64.add (local.get $stream) (i64.const 1000)) (i32.const 429))
        (call $http_continue (i64.const 0) (i32.const 224) (i32.const 1))))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.1.0#on-redis-reply")
    (param $call i64) (param $failed i32) (param $reply i32) (param $value i32) (param $a i64) (param $b i32) (param $now i64)
    (local $stream i64)
    (local.set $stream (i64.load
      (i32.add (i32.const 4096)
        (i32.mul (i32.and (i32.wrap_i64 (local.get $call)) (i32.const 4095)) (i32.const 8)))))
    (if (local.get $failed)
      (then
        (call $respond (local.get $stream) (i32.const 504))
        (return)))
    (if (i32.or (local.get $reply) (i32.ne (local.get $value) (i32.const 3)))
      (then (call $respond (local.get $stream) (i32.const 503)))
      (else (call $http_continue (local.get $stream) (i32.const 224) (i32.const 1))))
    (call $respond (local.get $stream) (i32.const 500)))

  (func (export "slidegate:filter/filter@0.1.0#on-response-headers") (param $stream i64) (param $status i32) (param $now i64) (result i32)
    (if (i32.eq (local.get $status) (i32.const 599)) (then unreachable))
    (call $http_continue (local.get $stream) (i32.const 224) (i32.const 1))
    (i32.const 0))

  ;; A body: a piece of more than one byte passes; a shorter one is held, at the end for Redis.
  (func $body (param $stream i64) (param $len i32) (param $end i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 1)) (then (return (i32.const 0))))
    (if (local.get $end) (then (return (call $ping (local.get $stream) (i32.const 0)))))
    (i32.const 1))

  (func (export "slidegate:filter/filter@0.1.0#on-request-body")
    (param $stream i64) (param $chunk i32) (param $len i32) (param $end i32) (param $now i64) (result i32)
    (call $body (local.get $stream) (local.get $len) (local.get $end)))

  (func (export "slidegate:filter/filter@0.1.0#on-response-body")
    (param $stream i64) (param $chunk i32) (param $len i32) (param $end i32) (param $now i64) (result i32)
    (call $body (local.get $stream) (local.get $len) (local.get $end)))

  (func (export "slidegate:filter/filter@0.1.0#on-done") (param $stream i64) (param $now i64)))
