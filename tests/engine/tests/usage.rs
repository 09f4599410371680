//! What answers tell of tokens, in every form in which they go over the wire, however they are cut.

use proptest::{prelude::*, sample::Index};
use slidegate_engine::tokens::{Usage, UsageReader};
use slidegate_engine_tests::{
    answers::{self, event_stream},
    fuzzing::answer::{WellFormedAnswer, any_answer, any_bytes},
    promises::runner,
    usage_oracle,
};

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Usage> {
    let mut reader = UsageReader::default();
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    reader.usage()
}

#[test]
fn answers_of_all_providers_are_charged_what_they_tell() {
    let answers = answers::all();
    assert!(answers.iter().filter(|answer| answer.usage.is_some()).count() > 50);
    let wrong: Vec<String> = answers
        .iter()
        .filter(|answer| read([answer.body.as_slice()]) != answer.usage)
        .map(|answer| format!("{}: {:?} and not {:?}", answer.name, read([answer.body.as_slice()]), answer.usage))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn it_is_the_same_wherever_an_answer_is_cut() {
    for answer in answers::all() {
        for at in 0..answer.body.len() {
            let (first, second) = answer.body.split_at(at);
            assert_eq!(read([first, second]), answer.usage, "{} cut at {at}", answer.name);
        }
        for size in [1, 2, 3, 7] {
            assert_eq!(read(answer.body.chunks(size)), answer.usage, "{} in pieces of {size}", answer.name);
        }
    }
}

#[test]
fn answers_are_read_as_a_tree_would_be() {
    let check = |(answer, cuts): (WellFormedAnswer, Vec<Index>)| {
        let expected = usage_oracle::usage(&answer.documents);
        prop_assert_eq!(read([answer.body.as_slice()]), expected);
        prop_assert_eq!(read(cut(&answer.body, &cuts)), expected);
        Ok(())
    };
    let outcome = runner(20_000).run(&(any_answer(), prop::collection::vec(any::<Index>(), 0..6)), check);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn any_bytes_are_read_the_same_in_any_pieces() {
    let check = |(body, cuts): (Vec<u8>, Vec<Index>)| {
        let whole = read([body.as_slice()]);
        prop_assert_eq!(read(cut(&body, &cuts)), whole);
        prop_assert_eq!(read(body.chunks(1)), whole);
        if let Some(usage) = whole {
            prop_assert!(usage.reasoning <= usage.output && usage.stock <= 1 << 42 && usage.billed() <= 1 << 44);
        }
        Ok(())
    };
    let outcome = runner(20_000).run(&(any_bytes(), prop::collection::vec(any::<Index>(), 0..6)), check);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn an_escaped_model_document_is_decoded() {
    // Some write `/` of base64 as `\/`.
    let body = event_stream(&[r#"{"usage":{"prompt_tokens":1,"a":"???>>>???"}}"#.to_owned()], true);
    assert!(body.contains(&b'/'), "the sample has one");
    let json = String::from_utf8_lossy(&body[12 + 33..body.len() - 4]).replace('/', "\\/");
    let escaped = event_stream(&[json], false);
    assert_eq!(read([escaped.as_slice()]), Some(Usage { input: 1, stock: 1, ..Usage::default() }));
}

/// A body in pieces.
fn cut<'a>(body: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    places.push(body.len());
    places.sort_unstable();
    let mut from = 0;
    let mut piece = |to: usize| {
        let piece = &body[from..to];
        from = to;
        piece
    };
    places.into_iter().map(&mut piece).collect()
}
