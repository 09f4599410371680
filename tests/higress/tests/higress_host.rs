//! The gateway for plugins itself, by plugins that each do one thing: what may be loaded, in which order hooks run,
//! what they may touch, and what pausing, resuming, answering and failing do.

use slidegate_higress_host::{
    Exchange, FailStrategy, Gateway, Module, Plugin, Request, Upstream, Worker,
    puppet::{puppet, wasm},
};

const HIGRESS: &str = "proxy_abi_version_0_2_100";
const UPSTREAM_SDK: &str = "proxy_abi_version_0_2_1";

fn made(body: &str) -> Module {
    puppet(HIGRESS, body).unwrap_or_else(|error| panic!("{error}"))
}

fn worker_of(plugins: Vec<Plugin>) -> Worker {
    let gateway = plugins.into_iter().fold(Gateway::new(), Gateway::plugin);
    gateway.start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap()
}

fn worker(body: &str) -> Worker {
    worker_of(vec![Plugin::new("puppet", &made(body), "{}")])
}

/// What was logged since it was last looked at, in one line.
fn said(worker: &mut Worker) -> String {
    worker.take_log().iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn get() -> Request {
    Request::get("example.com", "/path?a=b")
}

fn post() -> Request {
    Request::post("example.com", "/", "text/plain", &["ab", "cd"])
}

fn exchange(worker: &mut Worker, request: &Request) -> Exchange {
    let exchange = worker.exchange(request, &Upstream::ok());
    assert!(exchange.misuse.is_empty(), "{:?}", exchange.misuse);
    exchange
}

mod loading {
    use super::*;

    fn refusal(version: &str, imports: &str, body: &str) -> String {
        Module::load(&wasm(version, imports, body)).expect_err(body)
    }

    const ALLOCATOR: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 8))"#;

    #[test]
    fn what_a_gateway_does_not_give_does_not_link() {
        let unknown = r#"(import "env" "proxy_frobnicate" (func (param i32) (result i32)))"#;
        assert!(refusal(HIGRESS, unknown, ALLOCATOR).contains("proxy_frobnicate"));
        let other_type = r#"(import "env" "proxy_log" (func (param i32) (result i32)))"#;
        assert!(refusal(HIGRESS, other_type, ALLOCATOR).contains("proxy_log"));
        let log_level = r#"(import "env" "proxy_get_log_level" (func (param i32) (result i32)))"#;
        assert!(refusal("proxy_abi_version_0_2_0", log_level, ALLOCATOR).contains("proxy_get_log_level"));
        assert!(Module::load(&wasm(UPSTREAM_SDK, log_level, ALLOCATOR)).is_ok());
        let old = r#"(import "env" "proxy_get_configuration" (func (param i32 i32) (result i32)))"#;
        assert!(refusal(HIGRESS, old, ALLOCATOR).contains("proxy_get_configuration"));
        let wasi = r#"(import "wasi_snapshot_preview1" "thread_spawn" (func (param i32) (result i32)))"#;
        assert!(refusal(HIGRESS, wasi, ALLOCATOR).contains("thread_spawn"));
    }

    #[test]
    fn the_first_version_exported_decides_and_one_must_be() {
        let newer = format!("{ALLOCATOR} (func (export \"{HIGRESS}\"))");
        let module = Module::load(&wasm("proxy_abi_version_0_2_0", "", &newer)).unwrap();
        assert_eq!(format!("{:?}", module.version()), "V0_2_0");
        assert!(refusal("proxy_abi_version_0_3_0", "", ALLOCATOR).contains("ABI version"));
        assert!(refusal(HIGRESS, "", "").contains("malloc"));
        assert!(Module::load(b"not wasm").is_err());
    }

    #[test]
    fn a_hook_of_another_type_and_a_host_call_too_early_fail_the_start() {
        let start =
            |body: &str| Gateway::new().plugin(Plugin::new("puppet", &made(body), "{}")).start().unwrap_err().reason;
        assert!(start(r#"(func (export "proxy_on_tick") (param i64))"#).contains("proxy_on_tick"));
        let early = r#"(func (export "_initialize") (drop (call $set_tick (i32.const 5))))"#;
        assert!(start(early).contains("proxy_set_tick_period_milliseconds"), "{}", start(early));
        let log = r#"(func (export "_initialize") (call $say 'early'))"#;
        assert_eq!(said(&mut worker(log)), "early");
    }

    #[test]
    fn a_plugin_may_refuse_or_trap_at_any_step() {
        for (hook, body, reason) in [
            ("proxy_on_vm_start", "(i32.const 0)", "`proxy_on_vm_start` refused"),
            ("proxy_on_configure", "(i32.const 0)", "`proxy_on_configure` refused"),
            ("proxy_on_configure", "unreachable", "`proxy_on_configure` trapped"),
        ] {
            let module = made(&format!(r#"(func (export "{hook}") (param i32 i32) (result i32) {body})"#));
            let error = Gateway::new().plugin(Plugin::new("puppet", &module, "{}")).start().unwrap_err();
            assert!(error.reason.starts_with(reason), "{error}");
        }
    }
}

mod order {
    use super::*;

    /// Tells of every hook, with what it was given.
    fn teller(name: &str) -> Module {
        let hook = |hook: &str, parameters: &str, result: &str| {
            format!(
                r#"(func (export "proxy_on_{hook}") {parameters} {result} (call $say '{name}{hook}') {})"#,
                if result.is_empty() { "" } else { "(i32.const 0)" }
            )
        };
        let start = |hook: &str| {
            format!(
                r#"(func (export "proxy_on_{hook}") (param i32 i32) (result i32) (call $say '{name}{hook}') (i32.const 1))"#
            )
        };
        let (three, two) = ("(param i32 i32 i32)", "(param i32 i32)");
        made(
            &[
                start("vm_start"),
                start("configure"),
                hook("context_create", two, ""),
                hook("request_headers", three, "(result i32)"),
                hook("request_body", three, "(result i32)"),
                hook("request_trailers", two, "(result i32)"),
                hook("response_headers", three, "(result i32)"),
                hook("response_body", three, "(result i32)"),
                hook("response_trailers", two, "(result i32)"),
                hook("log", "(param i32)", ""),
                hook("done", "(param i32)", "(result i32)"),
                hook("delete", "(param i32)", ""),
            ]
            .concat(),
        )
    }

    #[test]
    fn hooks_run_in_order_and_backwards_on_the_way_back() {
        let plugins = vec![Plugin::new("a", &teller("a."), "{}"), Plugin::new("b", &teller("b."), "{}")];
        let mut worker = worker_of(plugins);
        assert_eq!(
            said(&mut worker),
            "a.context_create a.vm_start a.configure b.context_create b.vm_start b.configure"
        );
        let mut request = post();
        request.trailers = Some([("x-t", "1")].into_iter().collect());
        let mut upstream = Upstream::ok();
        upstream.trailers = Some([("x-u", "2")].into_iter().collect());
        let seen = worker.exchange(&request, &upstream);
        assert_eq!(seen.upstream.unwrap().trailers.unwrap().text("x-t").as_deref(), Some("1"));
        assert_eq!(seen.client.unwrap().trailers.unwrap().text("x-u").as_deref(), Some("2"));
        let expected = [
            "a.context_create a.request_headers b.context_create b.request_headers",
            "a.request_body b.request_body a.request_body b.request_body a.request_trailers b.request_trailers",
            "b.response_headers a.response_headers b.response_body a.response_body b.response_trailers \
             a.response_trailers",
            "a.log b.log a.done a.delete b.done b.delete",
        ];
        assert_eq!(said(&mut worker), expected.join(" "));
    }

    #[test]
    fn a_stream_that_leaves_early_is_logged_by_all() {
        let stopping =
            made(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 4))"#);
        let mut worker = worker_of(vec![Plugin::new("s", &stopping, "{}"), Plugin::new("b", &teller("b."), "{}")]);
        said(&mut worker);
        let stream = worker.open(&get());
        assert_eq!(said(&mut worker), "");
        worker.abort(stream);
        assert_eq!(said(&mut worker), "b.context_create b.log b.done b.delete");
        assert!(worker.close(stream).unwrap().reset);
    }

    #[test]
    fn plugins_of_the_same_code_live_in_one_vm_and_a_new_configuration_is_a_new_root() {
        let module = teller("");
        let mut worker = worker_of(vec![Plugin::new("a", &module, "{}"), Plugin::new("b", &module, "{\"b\":1}")]);
        assert_eq!(said(&mut worker), "context_create vm_start configure context_create configure");
        worker.reconfigure(1, "{}").unwrap();
        // The old one answers 0: it says itself when it is done, which a puppet never does.
        assert_eq!(said(&mut worker), "context_create configure done");
    }
}

mod maps_and_buffers {
    use super::*;

    #[test]
    fn nothing_is_allocated_for_nothing() {
        let mut worker = worker(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $say_number (call $get_header (i32.const 0) 'x-empty' (i32.const 16) (i32.const 20)))
                (call $say_number (i32.load (i32.const 16)))
                (call $say_number (call $get_header (i32.const 0) 'x-absent' (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_header (i32.const 2) 'x-absent' (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_header (i32.const 9) 'x-absent' (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_headers (i32.const 2) (i32.const 16) (i32.const 20)))
                (call $say_number (i32.load (i32.const 16)))
                (call $say_number (call $get_buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_buffer (i32.const 10) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_header (i32.const 0) (i32.const -1) (i32.const 5) (i32.const 16) (i32.const 20)))
                (call $say_number (call $get_header (i32.const 0) 'x-absent' (i32.const -1) (i32.const -1)))
                (call $say_number (call $get_header (i32.const 0) ':path' (i32.const -1) (i32.const -1)))
                (i32.const 0))"#,
        );
        exchange(&mut worker, &get().with("x-empty", ""));
        assert_eq!(said(&mut worker), "00 00 01 02 02 00 00 01 01 02 06 01 06");
    }

    #[test]
    fn a_configuration_is_read_while_it_is_configured_and_the_first_of_doubled_headers_counts() {
        let mut worker = worker(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                (drop (call $get_buffer (i32.const 7) (i32.const 0) (local.get 1) (i32.const 16) (i32.const 20)))
                (call $say_result) (i32.const 1))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (drop (call $add_header (i32.const 0) 'X-A' '3'))
                (drop (call $get_header (i32.const 0) 'X-a' (i32.const 16) (i32.const 20)))
                (call $say_result) (i32.const 0))"#,
        );
        assert_eq!(said(&mut worker), "{}");
        let seen = exchange(&mut worker, &get().with("x-a", "1").with("X-A", "2"));
        assert_eq!(said(&mut worker), "1");
        assert_eq!(seen.upstream.unwrap().headers.all("x-a"), [b"1", b"2", b"3"]);
        assert_eq!(seen.route_selections, 2);
    }

    #[test]
    fn headers_close_when_they_have_gone_on_and_open_again_for_the_log() {
        let peek = "(call $say_number (call $get_header (i32.const 0) ':path' (i32.const 16) (i32.const 20)))";
        let poke = "(call $say_number (call $set_header (i32.const 0) 'x' 'y'))";
        let mut worker = worker(&format!(
            r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) {peek} (i32.const 0))
            (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) {peek} (i32.const 0))
            (func (export "proxy_on_log") (param i32) {peek} {poke})"#
        ));
        exchange(&mut worker, &Request::post("example.com", "/", "text/plain", &["ab"]));
        assert_eq!(said(&mut worker), "02 02 00 02");
    }

    #[test]
    fn a_body_that_is_buffered_is_shown_whole_and_can_be_replaced() {
        let mut worker = worker(
            r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
                (call $say_number (local.get 1))
                (if (local.get 2) (then (drop (call $set_buffer (i32.const 0) (i32.const 0) (local.get 1) 'whole'))))
                (select (i32.const 0) (i32.const 1) (local.get 2)))"#,
        );
        let seen = exchange(&mut worker, &post());
        assert_eq!(
            (said(&mut worker).as_str(), seen.upstream.unwrap().body.as_slice()),
            ("02 04", b"whole".as_slice())
        );
    }

    #[test]
    fn properties_are_the_gateways_or_the_plugins() {
        let ask = |path: &str| {
            format!(
                "(i32.store (i32.const 20) (i32.const 0)) (call $say_number (call $get_property '{path}' (i32.const \
                 16) (i32.const 20))) (call $say_result)"
            )
        };
        let body = ["source\\0address", "route_name", "request\\0query", "nobody", "mine"].map(ask).concat();
        let mut worker = worker(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $say_number (call $set_property 'mine' 'yes'))
                (call $say_number (call $set_property 'route_name' 'no')) {body} (i32.const 0))
            (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say_number (call $set_property 'mine' 'no')) (i32.const 1))"#
        ));
        assert_eq!(said(&mut worker), "01");
        exchange(&mut worker, &get());
        assert_eq!(said(&mut worker), "00 02 00 192.0.2.1:40000 00 route 00 a=b 01  00 yes");
    }
}

mod stopping {
    use super::*;

    fn counting(answer: i32) -> String {
        format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $say 'headers') (i32.const {answer}))
            (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $say 'body') (i32.const 0))"#
        )
    }

    #[test]
    fn a_one_lets_the_body_come_only_in_higress_own_version() {
        for (version, answer, expected, passes) in [
            (HIGRESS, 1, "headers body body", true),
            (UPSTREAM_SDK, 1, "headers", false),
            (HIGRESS, 4, "headers", false),
            (HIGRESS, 3, "headers", false),
            (HIGRESS, 2, "headers body body", true),
        ] {
            let module = puppet(version, &counting(answer)).unwrap();
            let mut worker = worker_of(vec![Plugin::new("puppet", &module, "{}")]);
            let stream = worker.send(&post());
            assert_eq!(said(&mut worker), expected, "{version} {answer}");
            assert_eq!(
                worker.upstream(stream).map(|upstream| upstream.body),
                passes.then(|| b"abcd".to_vec()),
                "{version} {answer}"
            );
        }
    }

    #[test]
    fn what_piles_up_while_stopped_has_a_limit_unless_the_peer_is_slowed_down() {
        for (answer, status) in [(3, 413), (4, 0)] {
            let mut worker = worker(&format!(
                r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                    (drop (call $set_property 'set_decoder_buffer_limit' '3')) (i32.const {answer}))"#
            ));
            let stream = worker.send(&post());
            assert_eq!(worker.is_over(stream), status != 0);
            if let Some(exchange) = worker.close(stream) {
                assert_eq!(exchange.status(), status);
            }
        }
    }

    #[test]
    fn continuing_what_is_not_held_is_noticed() {
        let mut worker = worker(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (drop (call $continue (i32.const 0))) (i32.const 0))"#,
        );
        let seen = worker.exchange(&get(), &Upstream::ok());
        assert_eq!((seen.status(), seen.misuse.len()), (200, 1), "{:?}", seen.misuse);
    }

    #[test]
    fn bytes_are_injected_while_the_response_is_held() {
        let mut worker = worker(
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
                (drop (call $inject 'injected' (local.get 2))) (i32.const 3))"#,
        );
        let upstream = Upstream::new(200, &[], &["a", "b"]);
        assert_eq!(worker.exchange(&get(), &upstream).body(), "injectedinjected");
    }
}

mod answering {
    use super::*;

    const REFUSE: &str = "(call $respond (i32.const 429) 'a b' 'no' (i32.const 0) (i32.const 0) (i32.const -1))";
    const TELL: &str = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (drop (call $get_property 'response\0code_details' (i32.const 16) (i32.const 20))) (call $say_result) (i32.const 0))"#;

    #[test]
    fn an_answer_goes_through_the_whole_chain_and_through_who_gave_it() {
        let body = format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $say_number {REFUSE}) (call $say_number {REFUSE}) (i32.const 0)) {TELL}"#
        );
        let before = made(
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (drop (call $set_header (i32.const 2) 'x-before' '1')) (i32.const 0))"#,
        );
        let after = made(
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (drop (call $set_header (i32.const 2) 'x-after' '1')) (i32.const 0))"#,
        );
        let mut worker = worker_of(vec![
            Plugin::new("before", &before, "{}"),
            Plugin::new("puppet", &made(&body), "{}"),
            Plugin::new("after", &after, "{}"),
        ]);
        let seen = exchange(&mut worker, &post());
        assert_eq!((seen.status(), seen.body().as_str(), seen.details.as_str(), seen.reset), (429, "no", "a_b", false));
        assert_eq!((seen.header("x-before").as_deref(), seen.header("x-after")), (Some("1"), None));
        assert_eq!(
            (seen.header("content-length").as_deref(), seen.header("content-type").as_deref()),
            (Some("2"), Some("text/plain"))
        );
        assert!(seen.upstream.is_none());
        assert_eq!(said(&mut worker), "00 00 a_b");
    }

    #[test]
    fn grpc_is_answered_in_its_own_way_and_head_without_a_body() {
        let mut worker =
            worker(&format!(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {REFUSE})"#));
        let grpc = exchange(&mut worker, &get().with("content-type", "application/grpc"));
        assert_eq!(
            (grpc.status(), grpc.body().as_str(), grpc.header("grpc-message").as_deref()),
            (200, "", Some("no"))
        );
        assert_eq!(grpc.header("grpc-status").as_deref(), Some("4294967295"));
        let mut head = get();
        head.headers.set(":method", "HEAD");
        let head = exchange(&mut worker, &head);
        assert_eq!(
            (head.status(), head.body().as_str(), head.header("content-length").as_deref()),
            (429, "", Some("2"))
        );
    }

    #[test]
    fn an_answer_to_a_response_passes_the_filters_by_and_comes_too_late_for_one_that_was_sent() {
        let early = format!(
            r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) {REFUSE}) (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) unreachable)"#
        );
        let seen = exchange(&mut worker(&early), &get());
        assert_eq!((seen.status(), seen.body().as_str(), seen.reset), (429, "no", false));
        let late = format!(r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) {REFUSE})"#);
        let seen = exchange(&mut worker(&late), &get());
        assert_eq!((seen.status(), seen.body().as_str(), seen.reset), (200, "", true));
    }

    #[test]
    fn a_stream_can_be_closed() {
        let mut worker = worker(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (drop (call $close (i32.const 0))) (i32.const 4))"#,
        );
        let seen = exchange(&mut worker, &get());
        assert!(seen.reset && seen.client.is_none() && seen.upstream.is_none());
    }
}

mod failing {
    use super::*;

    const TRAP: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eqz (call $get_header (i32.const 0) 'x-trap' (i32.const 16) (i32.const 20))) (then unreachable)) (i32.const 0))"#;

    #[test]
    fn a_trap_answers_its_stream_and_the_next_one_meets_a_new_vm() {
        for (strategy, status) in [(FailStrategy::Close, 503), (FailStrategy::Open, 200)] {
            let mut worker = worker_of(vec![Plugin::new("puppet", &made(TRAP), "{}").failing(strategy)]);
            assert_eq!(exchange(&mut worker, &get()).status(), 200);
            let trapped = exchange(&mut worker, &get().with("x-trap", "1"));
            assert_eq!((trapped.status(), trapped.body().is_empty()), (status, status == 503));
            assert!(worker.failure(0).is_some());
            if status == 503 {
                assert_eq!(trapped.details, "wasm_fail_stream");
            }
            assert_eq!(exchange(&mut worker, &get()).status(), 200);
            assert_eq!(worker.failure(0), None);
        }
    }
}

mod beside {
    use super::*;

    #[test]
    fn ticks_come_by_the_clock() {
        let mut worker = worker(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say_number (call $set_tick (i32.const 100))) (i32.const 1))
            (func (export "proxy_on_tick") (param i32) (call $say 'tick'))"#,
        );
        worker.set_clock_ns(1_000_000_000_000);
        worker.pump();
        worker.set_clock_ns(1_000_050_000_000);
        worker.pump();
        worker.set_clock_ns(1_000_100_000_000);
        worker.pump();
        assert_eq!(said(&mut worker), "00 tick tick");
    }

    #[test]
    fn what_is_enqueued_is_told_to_who_registered() {
        let mut worker = worker(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say_number (call $register 'q' (i32.const 24))) (i32.const 1))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $say_number (call $enqueue (i32.load (i32.const 24)) 'message')) (i32.const 0))
            (func (export "proxy_on_queue_ready") (param i32 i32)
                (drop (call $dequeue (local.get 1) (i32.const 16) (i32.const 20))) (call $say_result)
                (call $say_number (call $dequeue (local.get 1) (i32.const 16) (i32.const 20))))"#,
        );
        exchange(&mut worker, &get());
        assert_eq!(said(&mut worker), "00 00 message 07");
    }
}
