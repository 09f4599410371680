//! What answers tell of tokens, in every form in which they go over the wire, however they are cut.

use proptest::{prelude::*, sample::Index};
use slidegate_engine::tokens::{SpokenText, Usage, UsageReader};
use slidegate_engine_tests::{
    answers::{self, event_stream},
    fuzzing::answer::{WellFormedAnswer, any_alike_events, any_answer, any_bytes},
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

/// What was told of a stream, and how much its model has said: everything by which a stream may be charged.
fn read_and_heard<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<Usage>, SpokenText) {
    let mut reader = UsageReader::default();
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    (reader.usage(), reader.spoken())
}

#[test]
fn events_that_are_like_those_before_them_are_read_as_byte_by_byte() {
    let check = |(stream, cuts): (Vec<u8>, Vec<Index>)| {
        // In pieces of a byte there is no event before another one.
        let plain = read_and_heard(stream.chunks(1));
        prop_assert_eq!(read_and_heard([stream.as_slice()]), plain);
        prop_assert_eq!(read_and_heard(cut(&stream, &cuts)), plain);
        Ok(())
    };
    let outcome = runner(50_000).run(&(any_alike_events(), prop::collection::vec(any::<Index>(), 0..3)), check);
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

/// How many bytes of text are known of an answer.
fn said(body: &str) -> u64 {
    let mut whole = UsageReader::default();
    whole.feed(body.as_bytes());
    let mut pieces = UsageReader::default();
    body.as_bytes().chunks(1).for_each(|byte| pieces.feed(byte));
    assert_eq!(whole.spoken(), pieces.spoken(), "{body}");
    whole.spoken().bytes
}

#[test]
fn what_a_model_says_is_known_of_every_provider() {
    for (name, event) in [
        ("OpenAI", r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"TEXT"},"finish_reason":null}]}"#),
        ("OpenAI, a refusal", r#"{"choices":[{"delta":{"refusal":"TEXT"}}]}"#),
        (
            "OpenAI, a tool",
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1","function":{"arguments":"TEXT"}}]}}]}"#,
        ),
        ("OpenAI, a function", r#"{"choices":[{"delta":{"function_call":{"arguments":"TEXT"}}}]}"#),
        ("OpenAI, completions", r#"{"choices":[{"text":"TEXT"}]}"#),
        ("Responses", r#"{"type":"response.output_text.delta","delta":"TEXT"}"#),
        ("Responses, whole", r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"TEXT"}]}]}"#),
        ("Responses, reasoning", r#"{"output":[{"summary":[{"type":"summary_text","text":"TEXT"}]}]}"#),
        ("transcription", r#"{"type":"transcript.text.delta","delta":"TEXT"}"#),
        ("vLLM", r#"{"choices":[{"delta":{"reasoning":"TEXT","reasoning_content":"TEXT"}}]}"#),
        ("vLLM, the other way round", r#"{"choices":[{"delta":{"reasoning_content":"TEXT","reasoning":"TEXT"}}]}"#),
        ("DeepSeek", r#"{"choices":[{"delta":{"content":null,"reasoning_content":"TEXT"}}]}"#),
        ("Anthropic", r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"TEXT"}}"#),
        (
            "Anthropic, thinking",
            r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"TEXT"}}"#,
        ),
        ("Anthropic, a tool", r#"{"type":"content_block_delta","delta":{"partial_json":"TEXT"}}"#),
        ("Anthropic, completions", r#"{"type":"completion","completion":"TEXT","stop_reason":null}"#),
        ("Gemini", r#"{"candidates":[{"content":{"parts":[{"text":"TEXT"}],"role":"model"},"index":0}]}"#),
        ("Gemini, an array", r#"[{"candidates":[{"content":{"parts":[{"text":"TEXT","thoughtSignature":"AbC="}]}}]}"#),
        ("Converse", r#"{"contentBlockDelta":{"delta":{"text":"TEXT"},"contentBlockIndex":0}}"#),
        ("Converse, bare", r#"{"contentBlockIndex":0,"delta":{"text":"TEXT"},"p":"abc"}"#),
        ("Converse, reasoning", r#"{"delta":{"reasoningContent":{"text":"TEXT"}}}"#),
        (
            "Converse, whole",
            r#"{"output":{"message":{"content":[{"reasoningContent":{"reasoningText":{"text":"TEXT"}}}]}}}"#,
        ),
        ("Llama", r#"{"generation":"TEXT","prompt_token_count":null,"stop_reason":null}"#),
        ("Titan", r#"{"inputTextTokenCount":3,"results":[{"outputText":"TEXT"}]}"#),
        ("Titan, streamed", r#"{"outputText":"TEXT","totalOutputTextTokenCount":null}"#),
        ("Mistral", r#"{"outputs":[{"text":"TEXT","stop_reason":null}]}"#),
        ("Cohere", r#"{"type":"content-delta","delta":{"message":{"content":{"text":"TEXT"}}}}"#),
        ("Cohere, a plan", r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"TEXT"}}}"#),
        ("Cohere v1", r#"{"event_type":"text-generation","text":"TEXT"}"#),
        ("Ollama", r#"{"message":{"role":"assistant","content":"TEXT"},"done":false}"#),
        ("Ollama, generate", r#"{"response":"TEXT","done":false}"#),
        ("Ollama, thinking", r#"{"response":"","thinking":"TEXT","done":false}"#),
        ("DashScope", r#"{"output":{"choices":[{"message":{"content":"TEXT"}}]}}"#),
        ("DashScope, a text", r#"{"output":{"text":"TEXT","finish_reason":"null"}}"#),
        ("TGI", r#"{"token":{"id":7,"text":"TEXT"},"generated_text":null}"#),
        ("TGI, whole", r#"[{"generated_text":"TEXT"}]"#),
    ] {
        let event = event.replace("TEXT", "some text");
        assert_eq!(said(&event), 9, "{name}");
        if !event.starts_with('[') {
            assert_eq!(said(&format!("data: {event}\n\ndata: {event}\n\n")), 18, "{name}");
        }
    }
    // What a tool is given is as the model spells it.
    for (name, event) in [
        ("Anthropic", r#"{"content":[{"type":"tool_use","id":"toolu_1","name":"f","input":ARGS}]}"#),
        ("Gemini", r#"[{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":ARGS}}]}}]}"#),
        ("Converse", r#"{"output":{"message":{"content":[{"toolUse":{"toolUseId":"x","input":ARGS}}]}}}"#),
        ("Converse, streamed", r#"{"delta":{"toolUse":{"input":"a text of thirteen"}}}"#),
    ] {
        let count = said(&event.replace("ARGS", r#"{"a":[1,{"b":"c"}]}"#));
        assert!((15..=19).contains(&count), "{name}: {count}");
    }
}

#[test]
fn a_token_of_other_alphabets_is_shorter_however_it_is_spelt() {
    let tokens = |text: &str| {
        let mut reader = UsageReader::default();
        reader.feed(
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n").repeat(10).as_bytes(),
        );
        reader.spoken().tokens()
    };
    assert_eq!(tokens("word "), 13);
    assert_eq!(tokens("你好"), 20);
    assert_eq!(tokens("\\u4f60\\u597d"), 20);
    assert_eq!(tokens("слово "), 37);
    // Latin letters with a sign here and there are no other alphabet.
    assert_eq!(tokens("größer "), 23);
    // Reasoning that is told under two names is said once.
    let mut reader = UsageReader::default();
    reader.feed("{\"choices\":[{\"delta\":{\"reasoning\":\"思考\",\"reasoning_content\":\"思考一\"}}]}".as_bytes());
    assert_eq!(reader.spoken(), SpokenText { bytes: 9, beyond_ascii: 9 });
}

#[test]
fn text_that_was_told_is_not_said_again() {
    // A whole text after its pieces is the same text.
    let done = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"some\"}\n\n\
                data: {\"type\":\"response.output_text.done\",\"text\":\"some\"}\n\n";
    assert_eq!(said(done), 4);
    assert_eq!(said("{\"token\":{\"text\":\"some\"},\"generated_text\":\"some\"}"), 4);
    // An output that is told has the text before it, and all of its own document, in it.
    let text = r#"{"choices":[{"delta":{"content":"some"}}]}"#;
    let with = |tokens: u64| format!(r#"{{"usage":{{"completion_tokens":{tokens}}},"choices":[{{"text":"some"}}]}}"#);
    let stream = |events: &[&str]| events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>();
    assert_eq!(said(&stream(&[text, text, &with(2)])), 0);
    assert_eq!(said(&stream(&[text, &with(2), text, text])), 8);
    assert_eq!(said(&stream(&[text, &with(2), text, &with(4), text])), 4);
    // One of nothing tells nothing, as some tell at first, and some all the time.
    assert_eq!(said(&stream(&[&with(0), text, &with(0)])), 12);
}

#[test]
fn what_is_told_beside_an_answer_holds_unless_it_tells_itself() {
    let read = |body: &str| {
        let mut reader = UsageReader::default();
        reader.tell(Some(10), Some(5));
        reader.feed(body.as_bytes());
        (reader.usage().expect("it was told").billed(), reader.spoken().bytes)
    };
    assert_eq!(read(r#"{"completions":[{"data":{"text":"some"}}]}"#), (15, 0));
    assert_eq!(read(r#"{"generation":"some","prompt_token_count":7}"#), (12, 0));
    assert_eq!(read(r#"{"generation":"some","prompt_token_count":7,"generation_token_count":2}"#), (9, 0));
    assert_eq!(read(r#"{"usage":{"input_tokens":8,"cache_read_input_tokens":3,"output_tokens":4}}"#), (15, 0));
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
