"""Official clients of language models, as programs use them: `clients.py ACTION CLIENT URL`.

Actions: `stream` reads a stream of 30 tokens to its end, `refused` meets a limit of requests that is used up and then
one of tokens, `cancelled` leaves a long stream at its first token, `cut` meets a limit in the middle of one. Whatever is not as it should be ends this with an error.
"""

import sys

MODEL = "stand-in"
ASKED = [{"role": "user", "content": "Say some words."}]


def openai(url, headers):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0, default_headers=headers)
    return client, openai.RateLimitError


def chat(url, headers):
    client, refusal = openai(url, headers)
    stream = lambda: client.chat.completions.create(
        model=MODEL, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )

    def text(chunk):
        return chunk.choices[0].delta.content if chunk.choices else None

    def usage(chunk):
        return chunk.usage and (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)

    return stream, text, usage, refusal


def responses(url, headers):
    client, refusal = openai(url, headers)
    stream = lambda: client.responses.create(model=MODEL, input="Say some words.", stream=True)

    def text(event):
        return event.delta if event.type == "response.output_text.delta" else None

    def usage(event):
        told = event.response.usage if event.type == "response.completed" else None
        return told and (told.input_tokens, told.output_tokens)

    return stream, text, usage, refusal


def messages(url, headers):
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, default_headers=headers)
    stream = lambda: client.messages.create(model=MODEL, max_tokens=100, messages=ASKED, stream=True)
    prompt = []

    def text(event):
        if event.type == "message_start":
            prompt.append(event.message.usage.input_tokens)
        return event.delta.text if event.type == "content_block_delta" else None

    def usage(event):
        return (prompt[0], event.usage.output_tokens) if event.type == "message_delta" else None

    return stream, text, usage, anthropic.RateLimitError


def gemini(url, headers):
    from google import genai
    from google.genai import errors, types

    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=url, headers=headers))
    stream = lambda: client.models.generate_content_stream(model=MODEL, contents="Say some words.")

    def usage(chunk):
        told = chunk.usage_metadata
        return told and (told.prompt_token_count, told.candidates_token_count)

    return stream, lambda chunk: chunk.text, usage, errors.ClientError


def read(stream, text, usage):
    """What a stream says, and what it takes in the end."""
    words, taken = [], None
    for piece in stream():
        words.append(text(piece) or "")
        taken = usage(piece) or taken
    expected = "".join(f"word{index} " for index in range(30))
    assert "".join(words) == expected, words
    assert taken == (10, 30), taken


# What the error's body says of itself, as each client shows it.
WORDS = {
    "chat": lambda error: (error.code, error.type),
    "responses": lambda error: (error.code, error.type),
    "messages": lambda error: error.body["error"]["type"],
    "gemini": lambda error: error.status,
}
EXHAUSTED = {
    "chat": ("rate_limit_exceeded", "tokens"),
    "responses": ("rate_limit_exceeded", "tokens"),
    "messages": "rate_limit_error",
    "gemini": "RESOURCE_EXHAUSTED",
}


def refused(stream, refusal, words=None, expected=None):
    """A limit that is used up is told as what it is, with the time to wait where the client shows it."""
    try:
        for _ in stream():
            raise AssertionError("it was not refused")
    except refusal as error:
        assert getattr(error, "status_code", None) or error.code == 429, error
        headers = error.response.headers
        assert 1 <= int(headers["retry-after"]) <= 60, dict(headers)
        assert words is None or words(error) == expected, words(error)


def cancelled(stream, text):
    """A program that has heard enough."""
    pieces = stream()
    for piece in pieces:
        if text(piece):
            pieces.close()
            return
    raise AssertionError("it said nothing")


action, client, url = sys.argv[1:]
# Why a stream says that it ends, and what it says of one that has come to its greatest length.
REASONS = {
    "chat": lambda chunk: chunk.choices[0].finish_reason if chunk.choices else None,
    "responses": lambda event: event.type if event.type == "response.incomplete" else None,
    "messages": lambda event: event.delta.stop_reason if event.type == "message_delta" else None,
    "gemini": lambda chunk: chunk.candidates[0].finish_reason if chunk.candidates else None,
}
LENGTH = {
    "chat": "length",
    "responses": "response.incomplete",
    "messages": "max_tokens",
    "gemini": "FinishReason.MAX_TOKENS",
}


def cut(stream, text, reason, expected):
    """A stream that is cut ends regularly, before it would have."""
    words, told = [], None
    for piece in stream():
        told = reason(piece) or told
        words.append(text(piece) or "")
    words = "".join(words).split()
    assert words == [f"word{index}" for index in range(len(words))] and 0 < len(words) < 5000, words
    assert str(told) == expected, told


def using(limit):
    """The client with a limit of this name."""
    manners = {"stream": "tokens=30;split=7", "refused": "tokens=30", "cancelled": "tokens=10000;pause=10"}
    manners["cut"] = "tokens=10000;pause=3"
    make = {"chat": chat, "responses": responses, "messages": messages, "gemini": gemini}[client]
    return make(url, {"x-model": manners[action], "x-limited": limit})


stream, text, usage, refusal = using("requests" if action == "refused" else "no")
if action == "cancelled":
    cancelled(stream, text)
elif action == "cut":
    cut(stream, text, REASONS[client], LENGTH[client])
else:
    read(stream, text, usage)
if action == "refused":
    refused(stream, refusal)
    stream, text, usage, refusal = using("tokens")
    read(stream, text, usage)
    refused(stream, refusal, WORDS[client], EXHAUSTED[client])
