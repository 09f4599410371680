//! How long an answer a request asks for, by the APIs of all providers.

use std::iter;

use proptest::prelude::*;
use slidegate_engine::tokens::{COUNT_MAX, OutputBound, OutputBoundReader};
use slidegate_engine_tests::{fuzzing::answer::any_pieces, promises::runner};

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> OutputBound {
    let mut reader = OutputBoundReader::default();
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    *reader.bound()
}

/// The most tokens of all answers together that this asks for.
fn output_max(request: &str) -> Option<u64> {
    let whole = read([request.as_bytes()]);
    assert_eq!(read(request.as_bytes().chunks(1)), whole, "{request}");
    whole.output_max()
}

#[test]
fn every_api_bounds_its_output() {
    for (request, expected) in [
        (r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"\"max_tokens\":9"}]}"#, None),
        (r#"{"model":"gpt-4.1","max_completion_tokens":100}"#, Some(100)),
        (r#"{"model":"gpt-4.1","max_tokens":100,"n":3}"#, Some(300)),
        (r#"{"model":"gpt-3.5-turbo-instruct","max_tokens":100,"n":2,"best_of":4}"#, Some(400)),
        (r#"{"model":"o5","max_output_tokens":16}"#, Some(16)),
        (
            r#"{"model":"claude-sonnet-4-5","max_tokens":1024,"thinking":{"type":"enabled","budget_tokens":900}}"#,
            Some(1024),
        ),
        (r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens_to_sample":300}"#, Some(300)),
        (r#"{"contents":[],"generationConfig":{"maxOutputTokens":800,"candidateCount":2}}"#, Some(1_600)),
        (r#"{"contents":[],"generation_config":{"max_output_tokens":800}}"#, Some(800)),
        (r#"{"messages":[],"inferenceConfig":{"maxTokens":512,"temperature":0.5}}"#, Some(512)),
        (r#"{"prompt":"x","max_gen_len":512}"#, Some(512)),
        (r#"{"model":"llama3.2","options":{"num_predict":42}}"#, Some(42)),
        (r#"{"model":"qwen-plus","input":{},"parameters":{"max_tokens":1500,"result_format":"message"}}"#, Some(1500)),
        (r#"{"inputText":"x","textGenerationConfig":{"maxTokenCount":300,"stopSequences":[]}}"#, Some(300)),
        (r#"{"prompt":"x","maxTokens":200,"numResults":2}"#, Some(400)),
        (r#"{"inputs":"x","parameters":{"max_new_tokens":20,"best_of":2}}"#, Some(40)),
        (r#"{"instances":[],"parameters":{"maxOutputTokens":20,"candidateCount":2}}"#, Some(40)),
        (r#"{"prompt":"x","max_tokens":20,"num_generations":2}"#, Some(40)),
    ] {
        assert_eq!(output_max(request), expected, "{request}");
    }
}

#[test]
fn a_name_counts_however_it_is_spelt() {
    for (request, expected) in [
        (r#"{"max_tok\u0065ns":100}"#, Some(100)),
        (r#"{"\u006d\u0061\u0078\u005F\u0074okens":100}"#, Some(100)),
        (r#"{"generation\u0043onfig":{"maxOutputTok\u0065ns":800}}"#, Some(800)),
        (r#"{"max_tokens":1,"max_completion\u005ftokens":10000}"#, Some(10_000)),
        (r#"{"max_tok\u0045ns":100}"#, None),
        (r#"{"max_tokens\u0000":100}"#, None),
        (r#"{"max_tokens\n":100,"\\max_tokens":100,"max_tokens\"":100}"#, None),
        (r#"{"\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061max_tokens_to_sample_of":100}"#, None),
    ] {
        assert_eq!(output_max(request), expected, "{request}");
    }
}

#[test]
fn bounds_that_disagree_or_make_no_sense() {
    for (request, expected) in [
        (r#"{"max_tokens":1,"max_completion_tokens":10000}"#, Some(10_000)),
        (r#"{"max_completion_tokens":10000,"max_tokens":1}"#, Some(10_000)),
        (r#"{"max_tokens":7,"max_tokens":5}"#, Some(7)),
        (r#"{"options":{"num_predict":-1}}"#, None),
        (r#"{"options":{"num_predict":-2}}"#, None),
        (r#"{"max_tokens":0}"#, None),
        (r#"{"max_tokens":null}"#, None),
        (r#"{"max_tokens":"100"}"#, Some(100)),
        (r#"{"max_tokens":" 1_0\u0030 ","n":"4"}"#, Some(400)),
        (r#"{"max_tokens":"99999999999999999999999"}"#, Some(COUNT_MAX)),
        (r#"{"max_tokens":"many"}"#, None),
        (r#"{"max_tokens":"12","max_tokens":""}"#, Some(12)),
        (r#"{"max_tokens":100,"n":0}"#, Some(100)),
        (r#"{"max_tokens":100,"n":-4}"#, Some(100)),
        (r#"{"max_tokens":1000000000000}"#, Some(1_000_000_000_000)),
        (r#"{"max_tokens":1e300}"#, Some(COUNT_MAX)),
        (r#"{"max_tokens":1e300,"n":1e300}"#, Some(u64::MAX)),
        (r#"[{"max_tokens":100}]"#, None),
        (r#"{"max_tokens":100} {"max_tokens":200}"#, Some(100)),
        (r#"[] {"max_tokens":200}"#, None),
        (r#"{"max_tokens":10"#, None),
        ("max_tokens=100", None),
        ("", None),
    ] {
        assert_eq!(output_max(request), expected, "{request}");
    }
}

#[test]
fn what_is_asked_of_a_stream() {
    let bound = read([r#"{"stream":true,"stream_options":{"include_usage":false}}"#.as_bytes()]);
    assert_eq!((bound.stream, bound.include_usage), (Some(true), Some(false)));
    let bound = read([r#"{"stream":"true","stream_options":{"include_usage":null}}"#.as_bytes()]);
    assert_eq!((bound.stream, bound.include_usage), (Some(true), None), "as lenient servers take it");
    assert_eq!(read([r#"{"stream":0}"#.as_bytes()]).stream, Some(false));
}

#[test]
fn a_request_for_a_stream_is_changed_so_that_it_asks_for_the_usage() {
    let asking = r#","stream_options":{"include_usage":true}}"#;
    let added = |request: &str| format!("{}{asking}", request.strip_suffix('}').unwrap());
    for (request, expected) in [
        (r#"{"stream":true}"#, added(r#"{"stream":true}"#)),
        (" {\"stream\" :true\n}\n", format!(" {{\"stream\" :true\n{asking}\n")),
        (r#"{"a":"{,}","stream":true,"b":{"stream_options":{}}}"#,
            added(r#"{"a":"{,}","stream":true,"b":{"stream_options":{}}}"#)),
        (
            r#"{"stream":true,"stream_options": null }"#,
            r#"{"stream":true,"stream_options": {"include_usage":true} }"#.into(),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#.into(),
        ),
        (
            r#"{"stream_options":null,"prompt":"a,\",\\","stream_options":{},"stream":true,"m":[[1,2],"}",{"stream":false}]}"#,
            r#"{"stream_options":null,"prompt":"a,\",\\","stream_options":{"include_usage":true},"stream":true,"m":[[1,2],"}",{"stream":false}]}"#.into(),
        ),
        (r#"{"stream":true,"stream_options":{ }}"#,
            r#"{"stream":true,"stream_options":{ "include_usage":true}}"#.into()),
        (
            r#"{"stream_options":{"include_obfuscation":false},"stream":true}"#,
            r#"{"stream_options":{"include_obfuscation":false,"include_usage":true},"stream":true}"#.into(),
        ),
        (
            r#"{"stream_options":{"include_usage": false , "x":1},"stream":1}"#,
            r#"{"stream_options":{"include_usage": true , "x":1},"stream":1}"#.into(),
        ),
        (
            r#"{"stream":true,"stream_options":{"x":false,"include_us\u0061ge":false}}"#,
            r#"{"stream":true,"stream_options":{"x":false,"include_us\u0061ge":true}}"#.into(),
        ),
        (
            r#"{"stream_options":{"include_usage":false},"stream_options":{"x":[1]},"stream":true}"#,
            r#"{"stream_options":{"include_usage":false},"stream_options":{"x":[1],"include_usage":true},"stream":true}"#.into(),
        ),
    ] {
        assert_eq!(asked(request.as_bytes(), usize::MAX).unwrap_or_default(), expected, "{request}");
        for size in 1..request.len() {
            assert_eq!(asked(request.as_bytes(), size).unwrap_or_default(), expected, "{request} by {size}");
        }
    }
    for request in [
        r#"{}"#,
        r#"{"stream":false}"#,
        r#"{"stream":null}"#,
        r#"{"stream":true"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}"#,
        r#"[{"stream":true}]"#,
        "",
    ] {
        assert_eq!(asked(request.as_bytes(), usize::MAX), None, "{request}");
    }
}

/// A body read in pieces of this size, as it is changed to ask for the usage.
fn asked(body: &[u8], size: usize) -> Option<String> {
    let mut reader = OutputBoundReader::asking();
    body.chunks(size).for_each(|piece| reader.feed(piece));
    Some(String::from_utf8_lossy(&reader.usage_request()?.of(body)).into_owned())
}

#[test]
fn any_bytes_are_read_the_same_in_any_pieces() {
    let any_body = any_pieces(&[
        "\"max_tokens\":",
        "\"options\":{",
        "\"num_predict\":",
        "\"stream\":true",
        "\"stream_options\":{",
        "\"include_usage\":false",
        "null",
    ]);
    let outcome = runner(20_000).run(&(any_body, 1..9_usize), |(body, size)| {
        prop_assert_eq!(read(body.chunks(size)), read(iter::once(body.as_slice())));
        prop_assert_eq!(asked(&body, size), asked(&body, usize::MAX));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
