//! What is kept between the gateway's hooks about bodies and responses.

use slidegate_engine::{BodyCoding, ResponseHead, ResponseOrigin, ResponseView, Splice, Wants};

use super::*;

const BOTH: Wants =
    Wants { request_body: Interest::Hold, response_headers: true, response_body: Interest::Hold, done: true };

const DETAILS: &str = "response\0code_details";

#[test]
fn what_the_gateway_keeps_is_shown_once_and_goes_on_changed() {
    let (fake, mut following) = (Fake::default(), Following::default());
    fake.set_body("abcdef");
    let exchange = following.begin(2);
    exchange.wants = BOTH;
    assert_eq!(exchange.new_piece(&fake, Side::Request, 3), b"abc");
    exchange.keep(Side::Request, 3);
    assert_eq!(exchange.new_piece(&fake, Side::Request, 6), b"def");
    assert_eq!(exchange.new_piece(&fake, Side::Request, 3), b"", "trailers end it");
    let replaced = BodyChange::Replace(b"x".to_vec());
    fake.hook(2, || following.go_on(&fake, 2, Side::Request, &replaced, BOTH));
    assert_eq!(fake.take_events(), ["read 0+3 of Request", "read 3+3 of Request", "Request becomes 'x' on 2"]);
    let exchange = following.get(2).expect("more is wanted of it");
    assert_eq!(exchange.new_piece(&fake, Side::Request, 1), b"a", "nothing is kept any more");
}

#[test]
fn what_the_gateway_keeps_goes_on_with_a_change_at_one_place() {
    let (fake, mut following) = (Fake::default(), Following::default());
    fake.set_body("abcdef");
    let exchange = following.begin(2);
    exchange.wants = BOTH;
    exchange.keep(Side::Request, 6);
    let change = BodyChange::Splice(Splice { at: 2, removed: 3, bytes: b"x".to_vec() });
    fake.hook(2, || following.go_on(&fake, 2, Side::Request, &change, BOTH));
    assert_eq!(fake.take_events(), ["read 0+6 of Request", "Request becomes 'abxf' on 2"]);
}

#[test]
fn what_comes_behind_the_end_that_the_engine_makes_goes_nowhere() {
    let (fake, mut following) = (Fake::default(), Following::default());
    following.begin(2).wants = BOTH;
    let nothing = Wants::default();
    for (change, wants) in
        [(BodyChange::End(b"end".to_vec()), BOTH), (BodyChange::Keep, BOTH), (BodyChange::Keep, nothing)]
    {
        fake.hook(2, || following.go_on(&fake, 2, Side::Response, &change, wants));
    }
    let cut = ["Response becomes 'end' on 2", "Response becomes '' on 2", "Response becomes '' on 2"];
    assert_eq!(fake.take_events(), cut);
    assert!(following.get(2).is_some(), "until the stream is over");
    following.begin(3);
    following.go_on(&fake, 3, Side::Response, &BodyChange::Keep, nothing);
    assert!(following.get(3).is_none(), "of others nothing is kept");
}

#[test]
fn a_response_that_is_to_be_read_is_asked_for_without_a_coding() {
    let (mut filter, fake) = configured(LIMIT);
    let none = Wants { response_body: Interest::None, ..BOTH };
    for (wants, asked) in [(none, vec![]), (BOTH, vec!["replace accept-encoding identity of Request on 2".to_owned()])]
    {
        let pass = Verdict::Pass(Pass { wants, ..Pass::default() });
        fake.hook(2, || filter.act(2, Side::Request, pass));
        assert_eq!(fake.take_events(), asked);
    }
}

#[test]
fn a_response_is_read_as_the_gateway_has_it() {
    let (fake, mut following) = (Fake::default(), Following::default());
    fake.set_response(&[(":status", "201"), ("content-encoding", "gzip"), ("x", "1"), ("x", "2")]);
    let response = GatewayResponse::new(&fake, false);
    let head = ResponseHead { status: 201, origin: ResponseOrigin::Host, end: false };
    assert_eq!(
        (response.head(), response.header("x"), response.header_values("x").concat()),
        (head, Some(b"1".into()), b"12".into())
    );
    let exchange = following.begin(2);
    exchange.respond(&response, Vec::new());
    assert_eq!(exchange.piece(Side::Response, b"", false).coding, BodyCoding::Encoded);
    assert_eq!(exchange.piece(Side::Request, b"", false).coding, BodyCoding::Identity);
    fake.set_response(&[(":status", "200"), ("content-encoding", "Identity")]);
    exchange.respond(&GatewayResponse::new(&fake, false), Vec::new());
    assert_eq!(exchange.piece(Side::Response, b"", false).coding, BodyCoding::Identity);
}

#[test]
fn how_a_stream_ended_is_told_by_what_came_and_by_the_gateways_details() {
    // What the details are when headers come and at the end, and whether the last of the body came.
    for (at_headers, at_end, is_whole, ending) in [
        ("via_upstream", "via_upstream", true, StreamEnd::Whole),
        ("via_upstream", "upstream_reset_after_response_started{connection_termination}", false, StreamEnd::Upstream),
        ("via_upstream", "downstream_remote_disconnect", false, StreamEnd::Client),
        ("via_upstream", "via_upstream", false, StreamEnd::Client),
        ("other_plugin.rejected", "other_plugin.rejected", true, StreamEnd::Answered),
        ("other_plugin.rejected", "other_plugin.rejected", false, StreamEnd::Answered),
    ] {
        let (fake, mut following) = (Fake::default(), Following::default());
        let exchange = following.begin(2);
        fake.set_property(DETAILS, at_headers.as_bytes());
        exchange.respond(&GatewayResponse::new(&fake, false), Vec::new());
        if is_whole {
            exchange.end();
        }
        fake.set_property(DETAILS, at_end.as_bytes());
        assert_eq!(exchange.ending(&fake), ending, "{at_headers}, {at_end}, {is_whole}");
    }
    let fake = Fake::default();
    fake.set_property(DETAILS, b"upstream_response_timeout");
    assert_eq!(Following::default().begin(2).ending(&fake), StreamEnd::Upstream, "before it answered");
}

#[test]
fn an_answer_in_the_place_of_a_response_is_that_response_changed_or_a_local_one() {
    let answer = || Response {
        status: 200,
        headers: vec![("x-cache".into(), b"STALE".to_vec())],
        body: b"good".to_vec().into(),
        details: "cache.stale",
        grpc_status: 14,
    };
    let edits = || vec![HeaderEdit::Set("x-limit".into(), b"5".to_vec())];
    let (fake, mut following) = (Fake::default(), Following::default());
    fake.set_response(&[(":status", "503"), ("content-encoding", "gzip"), ("retry-after", "9")]);
    following.begin(2).respond(&GatewayResponse::new(&fake, false), edits());
    let mut replaced = following.forget(2).unwrap().answer(&fake, answer()).expect("it has a body");
    let changes = fake.take_events();
    for change in ["content-encoding", "retry-after", ":status", "x-cache", "x-limit", "content-length"] {
        assert!(changes.iter().any(|event| event.contains(change)), "{change}: {changes:?}");
    }
    // Its body comes with the first piece, and nothing of the other's.
    assert!(replaced.put_replacement(&fake) && !replaced.put_replacement(&fake));
    assert!(fake.take_events().iter().any(|event| event.contains("good")));
    assert_eq!(replaced.interest(Side::Response), Interest::None);
    // Of one without a body none ever comes.
    following.begin(3).respond(&GatewayResponse::new(&fake, true), edits());
    let local = following.forget(3).unwrap().answer(&fake, answer()).expect_err("it has no body");
    assert_eq!(local.headers, [("x-cache".into(), b"STALE".to_vec()), ("x-limit".into(), b"5".to_vec())]);
}
