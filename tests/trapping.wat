;; A filter that fails when it is told to. It keeps the contract of wit/ by hand: canonical ABI, results through a return
;; pointer. Its configuration is `{"m":"p"}` or `{"m":"r"}`: what a trap means, pass or refuse.
;;
;; Requests, by the byte after the slash of the path: `t` traps, `l` runs for ever, `g` takes all memory and traps; any other
;; passes, `h` with its body held. A response with status 418 traps.
(module
  (import "slidegate:filter/http@0.2.0" "path" (func $path (param i64 i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "traps")
  (global $top (mut i32) (i32.const 32768))

  ;; Bump allocation, starting over when the pages are used up: what a call gets is gone by then.
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.const 131072))
      (then (local.set $at (i32.const 32768))))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  ;; Ok: no Redis, any headers, on-trap as configured, no local windows, no warnings.
  (func (export "slidegate:filter/filter@0.2.0#configure") (param $json i32) (param $len i32) (param i64 i64) (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 48))
    (i32.store8 (i32.const 28) (i32.eq (i32.load8_u offset=6 (local.get $json)) (i32.const 0x72)))
    (i32.const 0))

  ;; It passes, and wants to see the headers of its response.
  (func $pass (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 48))
    (i32.store8 (i32.const 4) (i32.const 1))
    (i32.store8 (i32.const 45) (i32.const 1))
    (i32.const 0))

  ;; A list of nothing, or two.
  (func $nothing (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 16))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 5))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#on-request") (param $stream i64) (param i64 i64) (result i32)
    (local $kind i32)
    (call $path (local.get $stream) (i32.const 0))
    (local.set $kind (i32.load8_u offset=1 (i32.load (i32.const 0))))
    (if (i32.eq (local.get $kind) (i32.const 0x74)) (then unreachable))
    (if (i32.eq (local.get $kind) (i32.const 0x6c)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $kind) (i32.const 0x67))
      (then
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        unreachable))
    (drop (call $pass))
    (if (i32.eq (local.get $kind) (i32.const 0x68)) (then (i32.store8 (i32.const 44) (i32.const 2))))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#on-response-headers") (param i64) (param $status i32) (param i32 i32 i64 i64) (result i32)
    (if (i32.eq (local.get $status) (i32.const 418)) (then unreachable))
    (call $pass))

  (func (export "slidegate:filter/filter@0.2.0#on-request-body") (param i64 i32 i32 i32 i32 i64 i64) (result i32) (call $pass))
  (func (export "slidegate:filter/filter@0.2.0#on-response-body") (param i64 i32 i32 i32 i32 i64 i64) (result i32) (call $pass))
  (func (export "slidegate:filter/filter@0.2.0#on-redis-replies") (param i32 i32 i64 i64) (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#on-wake") (param i64 i64) (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#on-done") (param i64 i32 i64 i64))
  (func (export "slidegate:filter/filter@0.2.0#on-retire") (param i64 i64))
  (func (export "slidegate:filter/filter@0.2.0#metrics") (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#take-metrics") (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#explain") (param i64 i32 i32 i64 i64) (result i32) (call $nothing)))
