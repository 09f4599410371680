;; A filter that passes all, and says in the log what it sees of bodies. It keeps the contract of wit/ by hand: canonical ABI, results through a
;; return pointer.
;;
;; Bodies are watched, but for requests whose path begins with `/h`: theirs, and those of their responses, are held. A line is `saw `, a digit for the coding
;; (identity, decoded, encoded), a space, and the bytes.
(module
  (import "slidegate:filter/http@0.2.0" "path" (func $path (param i64 i32)))
  (import "slidegate:filter/system@0.2.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "watches")
  (data (i32.const 1024) "saw 0 ")
  (global $top (mut i32) (i32.const 32768))

  ;; Bump allocation, starting over when the pages are used up: what a call gets is gone by then.
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.const 131072))
      (then (local.set $at (i32.const 32768))))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "slidegate:filter/filter@0.2.0#configure") (param i32 i32) (param i64 i64) (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 48))
    (i32.const 0))

  ;; It passes, and wants this of both bodies.
  (func $pass (param $interest i32) (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 48))
    (i32.store8 (i32.const 4) (i32.const 1))
    (i32.store8 (i32.const 44) (local.get $interest))
    (i32.store8 (i32.const 46) (local.get $interest))
    (i32.const 0))

  ;; A list of nothing, or two.
  (func $nothing (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 16))
    (i32.const 0))

  (func $say (param $bytes i32) (param $len i32) (param $coding i32)
    (i32.store8 (i32.const 1028) (i32.add (i32.const 48) (local.get $coding)))
    (memory.copy (i32.const 1030) (local.get $bytes) (local.get $len))
    (call $log (i32.const 1) (i32.const 1024) (i32.add (i32.const 6) (local.get $len))))

  (func (export "slidegate:filter/filter@0.2.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 7))
    (i32.const 0))

  (func (export "slidegate:filter/filter@0.2.0#on-request") (param $stream i64) (param i64 i64) (result i32)
    (call $path (local.get $stream) (i32.const 0))
    (call $pass (i32.add (i32.const 1) (i32.eq (i32.load8_u offset=1 (i32.load (i32.const 0))) (i32.const 0x68)))))

  (func (export "slidegate:filter/filter@0.2.0#on-request-body")
    (param i64) (param $bytes i32) (param $len i32) (param $coding i32) (param i32 i64 i64) (result i32)
    (call $say (local.get $bytes) (local.get $len) (local.get $coding))
    (call $pass (i32.const 1)))
  (func (export "slidegate:filter/filter@0.2.0#on-response-body")
    (param i64) (param $bytes i32) (param $len i32) (param $coding i32) (param i32 i64 i64) (result i32)
    (call $say (local.get $bytes) (local.get $len) (local.get $coding))
    (call $pass (i32.const 1)))

  (func (export "slidegate:filter/filter@0.2.0#on-response-headers") (param i64 i32 i32 i32 i64 i64) (result i32) (call $pass (i32.const 1)))
  (func (export "slidegate:filter/filter@0.2.0#on-redis-replies") (param i32 i32 i64 i64) (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#on-wake") (param i64 i64) (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#on-done") (param i64 i32 i64 i64))
  (func (export "slidegate:filter/filter@0.2.0#on-retire") (param i64 i64))
  (func (export "slidegate:filter/filter@0.2.0#metrics") (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#take-metrics") (result i32) (call $nothing))
  (func (export "slidegate:filter/filter@0.2.0#explain") (param i64 i32 i32 i64 i64) (result i32) (call $nothing)))
