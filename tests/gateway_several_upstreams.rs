//! Routes with several upstreams: they take turns, who does not answer is left out and tried again, and no client
//! notices.

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    raw_upstream::RawUpstream,
    upstream::Upstream,
};

fn settings(urls: &[String], more: &str) -> String {
    format!("upstreams: [{}]\nworkers: 1\n{more}", urls.join(", "))
}

fn statuses(gateway: &Gateway, requests: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..requests).map(|_| client.get("/", &[]).status()).collect()
}

#[test]
fn upstreams_take_turns() {
    let upstreams = [(); 3].map(|()| Upstream::start());
    let urls = [upstreams[0].url(), upstreams[1].url(), upstreams[2].h2c_url()];
    let gateway = Gateway::serve(&settings(
        &urls,
        "filter: {_rules_: [{rule_name: r, _match_service_: [\"127.0.0.1\"], global_threshold: {query_per_day: \
         30}}]}\n",
    ));
    assert_eq!(
        statuses(&gateway, 31),
        [[200; 30].as_slice(), &[429]].concat(),
        "a service is the first of its upstreams"
    );
    assert_eq!(upstreams.each_ref().map(Upstream::requests), [10; 3]);
    // The line of each request says where it went.
    gateway.wait_printed(&format!("upstream=\"{}\"", urls[1].replace("http://", "")));
    let shown = gateway.ask_admin("/config").1;
    assert!(urls.iter().all(|url| shown.contains(url.as_str())), "{shown}");
}

#[test]
fn one_that_is_away_costs_no_request_and_comes_back() {
    let (staying, leaving) = (Upstream::start(), Upstream::start());
    let port = leaving.port();
    let gateway = Gateway::serve(&settings(&[staying.url(), leaving.url()], "timeouts: {upstream_ejection: 100ms}\n"));
    assert_eq!(statuses(&gateway, 10), [200; 10]);
    assert_eq!(leaving.requests(), 5);
    drop(leaving);
    assert_eq!(statuses(&gateway, 40), [200; 40], "{}", gateway.log());
    gateway.wait_log("an upstream does not answer");
    let back = Upstream::start_on(port);
    wait_until("a request tries it", || statuses(&gateway, 4) == [200; 4] && back.requests() > 0);
    gateway.wait_log("an upstream answers again");
    let before = back.requests();
    assert_eq!(statuses(&gateway, 20), [200; 20]);
    assert_eq!(back.requests(), before + 10);
    assert_eq!(gateway.log_lines("an upstream does not answer").len(), 1, "{}", gateway.log());
}

#[test]
fn one_that_answers_nothing_is_left_out() {
    let good = Upstream::start();
    let silent = RawUpstream::start(|mut connection| drop(connection.read_head()));
    let gateway = Gateway::serve(&settings(&[good.url(), silent.url()], "timeouts: {upstream_ejection: 1h}\n"));
    let mut client = gateway.client();
    // What was sent is not sent to another one.
    let failed = (0..30).filter(|_| client.send("POST", "/", &[], b"x").status() == 502).count();
    assert_eq!(failed, 3);
    assert_eq!(good.requests(), 27);
    assert_eq!(gateway.metrics().sum("slidegate_upstream_errors_total", &[("cause", "reset")]), 3.0);
}

#[test]
fn one_that_is_late_is_left_out_and_a_client_that_is_slow_is_not_its_fault() {
    let good = Upstream::start();
    let late = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.wait();
    });
    let gateway =
        Gateway::serve(&settings(&[late.url(), good.url()], "timeouts: {upstream_ejection: 1h, response: 200ms}\n"));
    let failed = statuses(&gateway, 20).iter().filter(|status| **status == 504).count();
    assert_eq!(failed, 3);
    // Bodies that do not come, and clients that break off.
    let gateway = Gateway::serve(&settings(&[good.url()], "timeouts: {response: 200ms}\nlimits: {body_time: 200ms}\n"));
    for _ in 0..4 {
        let mut client = gateway.client();
        client.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nx").expect("an open connection");
        assert_eq!(client.read_answer("POST").expect("an answer").status(), 408);
    }
    assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);
}

#[test]
fn when_all_are_away_they_are_asked_all_the_same() {
    let (first, second) = (Upstream::start(), Upstream::start());
    let (url, port) = (second.url(), second.port());
    let gateway = Gateway::serve(&settings(&[first.url(), url], "timeouts: {upstream_ejection: 1h}\n"));
    assert_eq!(statuses(&gateway, 2), [200; 2]);
    drop((first, second));
    assert_eq!(statuses(&gateway, 10), [502; 10]);
    let _back = Upstream::start_on(port);
    assert_eq!(statuses(&gateway, 10), [200; 10], "{}", gateway.log());
}

#[test]
fn one_that_moves_is_followed_by_the_settings_without_a_failure() {
    let (staying, old) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::serve(&settings(&[staying.url(), old.url()], ""));
    assert_eq!(statuses(&gateway, 4), [200; 4]);
    let new = Upstream::start();
    drop(old);
    assert_eq!(statuses(&gateway, 10), [200; 10]);
    gateway.replace_settings(&settings(&[staying.url(), new.url()], ""));
    wait_until("it is found", || statuses(&gateway, 2) == [200; 2] && new.requests() > 0);
    let before = (staying.requests(), new.requests());
    assert_eq!(statuses(&gateway, 10), [200; 10]);
    assert_eq!((staying.requests(), new.requests()), (before.0 + 5, before.1 + 5));
}
