//! The demo of limits on tokens, in front of a stand-in for a language model.

use serde_json::{Value, json};

use super::place::DemoPlace;

/// How the model answers: a second for forty tokens.
pub(super) const MANNER: &str = "tokens=40;pause=25";

/// Each API key has a budget of tokens, wherever the client of a provider puts it.
pub(super) fn filter() -> Value {
    let each_key = |place: &str, name: &str, small: &str| {
        json!({
            place: name,
            "limit_keys": [{"key": small, "token_per_minute": 40}, {"key": "*", "token_per_minute": 1000}],
        })
    };
    let each_header = |name, small| each_key("limit_by_per_header", name, small);
    json!({
        "rule_name": "demo-llm",
        "rule_items": [
            each_header("authorization", "Bearer small"),
            each_header("x-api-key", "small"),
            each_header("x-goog-api-key", "small"),
            each_key("limit_by_per_param", "key", "small"),
            {
                "limit_by_per_ip": "from-remote-addr",
                "limit_keys": [{"key": "0.0.0.0/0", "token_per_minute": 1000}],
            },
        ],
        "headers": ["x-ratelimit-tokens", "retry-after"],
        "error_format": "auto",
        "on_missing_usage": "estimate",
    })
}

pub(super) fn guide(DemoPlace { url, admin, counts, .. }: &DemoPlace) -> String {
    let hello = r#"{"model": "m", "messages": [{"role": "user", "content": "Hello"}]}"#;
    let stream = r#"{"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "Hello"}]}"#;
    format!(
        "Slidegate's demo is at {url}, in front of a stand-in for a language model, which speaks as OpenAI, Anthropic
and Google do, and takes 10 tokens for a prompt and 40 for its answer.
{counts}
Each API key has 1000 tokens a minute, the key `small` 40; clients without a key share those of their address.

Try, in another terminal:

  # One answer. What remains is told with an estimate taken off, which is settled when the answer has ended.
  curl -i {url}/v1/chat/completions -d '{hello}'

  # The same as a stream: it comes token by token, and tells in the end what it took.
  curl -sN {url}/v1/chat/completions -d '{stream}'

  # Twenty at once on a budget of 1000. Each reserves what it may take: as many pass as have room, the others are 429.
  seq 20 | xargs -P 20 -I@ curl -s -o /dev/null -w '%{{http_code}} ' -H 'authorization: Bearer many' \
  {url}/v1/chat/completions -d '{stream}'; echo

  # They took 50 each. What was reserved beyond that is free again, so that there is room for one more.
  curl -s -o /dev/null -D - -H 'authorization: Bearer many' {url}/v1/chat/completions -d '{hello}' | grep -iE \
  '^(HTTP|x-ratelimit)'

  # A budget that is used up: 200, then 429 in Anthropic's words, as the path is Anthropic's.
  for i in 1 2; do curl -s -D - -o /dev/stdout -H 'x-api-key: small' {url}/v1/messages -d '{hello}' | grep -E \
  'HTTP|retry-after|error'; done

  # What answers were charged, and what is still reserved.
  curl -s {admin}/metrics | grep ^slidegate_token

Official clients take the gateway for the provider; with `pip install openai anthropic`:

  # Reads a stream.
  OPENAI_API_KEY=alice python3 -c 'import openai; [print(c.choices[0].delta.content or \"\", end=\"\", flush=True) for \
  c in openai.OpenAI(base_url=\"{url}/v1\").chat.completions.create(model=\"m\", stream=True, messages=[{{\"role\": \
  \"user\", \"content\": \"Hello\"}}])]'

  # Asks twice, and takes the refusal for one.
  ANTHROPIC_API_KEY=small python3 -c 'import anthropic; [anthropic.Anthropic(base_url=\"{url}\", \
  max_retries=0).messages.create(model=\"m\", max_tokens=100, messages=[{{\"role\": \"user\", \"content\": \
  \"Hello\"}}]) for _ in range(2)]' 2>&1 | tail -1

Ctrl-C ends it. With a file of your own: slidegate init --for llm, slidegate check FILE, slidegate serve FILE.

"
    )
}
