//! What an upstream does with one request: an answer, well made or spoilt on purpose.
//!
//! A behaviour is built right (`openai`, `openai_stream`, ...) and then spoilt (`cut_after_tokens`, ...). Where
//! bytes or tokens are counted, only the body counts, without its framing.

use std::time::Duration;

use serde_json::{Value, json};

/// One answer as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Behaviour {
    status: u16,
    headers: Vec<(String, String)>,
    parts: Vec<Part>,
    framing: Framing,
    end: End,
    /// What the head says of the body's length, where that differs from what is sent.
    length_claimed: Option<usize>,
}

#[derive(Debug, Clone)]
enum Part {
    Bytes(Vec<u8>),
    /// Bytes that hold a token of the answer.
    Token(Vec<u8>),
    Wait(Duration),
    /// Before the head.
    HeadWait(Duration),
}

/// How the client can tell where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    /// By the end of the connection: a cut looks like an end.
    UntilClose,
}

/// What follows the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The next request.
    Clean,
    Close,
    Reset,
    /// Nothing, with the connection open.
    Stall,
}

/// One thing to do on the wire.
#[derive(Debug)]
pub enum Act {
    Send(Vec<u8>),
    Wait(Duration),
}

/// Returns token counts as OpenAI reports them.
pub fn usage(input: u64, output: u64) -> Value {
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}

impl Behaviour {
    /// Any status with any body of a known length.
    pub fn plain(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            parts: vec![Part::Bytes(body.into())],
            framing: Framing::Length,
            end: End::Clean,
            length_claimed: None,
        }
    }

    /// Any status with JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::plain(status, "application/json", body.to_string())
    }

    /// An error in OpenAI's form.
    pub fn error(status: u16, message: &str) -> Self {
        let error = json!({ "message": message, "type": "error", "param": null, "code": null });
        Self::json(status, &json!({ "error": error }))
    }

    /// A whole answer in OpenAI's form; `usage` null reports none.
    pub fn openai(text: &str, usage: Value) -> Self {
        let message = json!({ "role": "assistant", "content": text, "refusal": null });
        Self::openai_message(message, "stop", usage)
    }

    /// A whole answer in OpenAI's form, with any message and finish reason.
    pub fn openai_message(message: Value, finish: &str, usage: Value) -> Self {
        let mut body = json!({
            "id": "chatcmpl-upstream", "object": "chat.completion", "created": 1_700_000_000, "model": "upstream-1",
            "choices": [{ "index": 0, "logprobs": null, "finish_reason": finish }],
            "service_tier": "default",
        });
        body["choices"][0]["message"] = message;
        if !usage.is_null() {
            body["usage"] = usage;
        }
        Self::json(200, &body)
    }

    /// A whole answer in which the model declines, in the field that OpenAI has for it.
    pub fn refusal(text: &str) -> Self {
        let message = json!({ "role": "assistant", "content": null, "refusal": text });
        Self::openai_message(message, "stop", usage(9, 7))
    }

    /// A stream in OpenAI's form, a token a word; `usage` null reports none.
    pub fn openai_stream(text: &str, usage: Value) -> Self {
        let chunk = |delta: Value, finish: Value| {
            let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
            data(&openai_chunk(json!([choice]), Value::Null))
        };
        let mut parts = vec![Part::Bytes(chunk(json!({ "role": "assistant", "content": "" }), Value::Null))];
        parts.extend(words(text).map(|word| Part::Token(chunk(json!({ "content": word }), Value::Null))));
        parts.push(Part::Bytes(chunk(json!({}), json!("stop"))));
        if !usage.is_null() {
            parts.push(Part::Bytes(data(&openai_chunk(json!([]), usage))));
        }
        parts.push(Part::Bytes(b"data: [DONE]\n\n".to_vec()));
        Self::events(parts)
    }

    /// A stream of these events, each the text after `data: ` and each a token; nothing is added.
    pub fn raw_stream<'a>(events: impl IntoIterator<Item = &'a str>) -> Self {
        let event = |event: &str| Part::Token(format!("data: {event}\n\n").into_bytes());
        Self::events(events.into_iter().map(event).collect())
    }

    /// A whole answer in Anthropic's form.
    pub fn anthropic(text: &str, input: u64, output: u64) -> Self {
        let content = json!([{ "type": "text", "text": text }]);
        let message = anthropic_message(content, json!("end_turn"), input, output);
        Self::json(200, &message)
    }

    /// A stream in Anthropic's form, a token a word.
    pub fn anthropic_stream(text: &str, input: u64, output: u64) -> Self {
        let opening = anthropic_message(json!([]), Value::Null, input, 1);
        let block = json!({ "type": "text", "text": "" });
        let mut parts = vec![
            Part::Bytes(event(&json!({ "type": "message_start", "message": opening }))),
            Part::Bytes(event(&json!({ "type": "content_block_start", "index": 0, "content_block": block }))),
            Part::Bytes(event(&json!({ "type": "ping" }))),
        ];
        parts.extend(words(text).map(|word| {
            let delta = json!({ "type": "text_delta", "text": word });
            Part::Token(event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta })))
        }));
        let delta = json!({ "stop_reason": "end_turn", "stop_sequence": null });
        let ending = json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": output } });
        parts.push(Part::Bytes(event(&json!({ "type": "content_block_stop", "index": 0 }))));
        parts.push(Part::Bytes(event(&ending)));
        parts.push(Part::Bytes(event(&json!({ "type": "message_stop" }))));
        Self::events(parts)
    }

    fn events(parts: Vec<Part>) -> Self {
        Self { parts, framing: Framing::Chunked, ..Self::plain(200, "text/event-stream", "") }
    }

    /// 200 with nothing in it.
    pub fn empty_ok() -> Self {
        Self::plain(200, "application/json", "")
    }

    /// 200 that claims to be JSON.
    pub fn invalid_json() -> Self {
        Self::plain(200, "application/json", r#"{"choices": [{"message": "#)
    }

    /// 200 with a page for people.
    pub fn wrong_content_type() -> Self {
        Self::plain(200, "text/html", "<html><body>Sign in to continue</body></html>")
    }

    /// A redirect to an address.
    pub fn redirect(to: &str) -> Self {
        Self::plain(307, "text/plain", "moved").header("location", to)
    }

    /// A stream with one line of so many bytes.
    pub fn huge_line(bytes: usize) -> Self {
        let mut line = b"data: ".to_vec();
        line.resize(bytes, b'x');
        line.extend_from_slice(b"\n\n");
        Self::events(vec![Part::Token(line)])
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before anything is sent.
    pub fn slow_head(mut self, wait: Duration) -> Self {
        self.parts.insert(0, Part::HeadWait(wait));
        self
    }

    /// Waits between the head and the first token.
    pub fn slow_first_token(mut self, wait: Duration) -> Self {
        let first = self.token_place(0);
        self.parts.insert(first, Part::Wait(wait));
        self
    }

    /// Waits before each token.
    pub fn slow_tokens(mut self, wait: Duration) -> Self {
        let parts = self.parts.into_iter();
        self.parts = parts
            .flat_map(|part| match part {
                Part::Token(_) => vec![Part::Wait(wait), part],
                Part::Bytes(_) | Part::Wait(_) | Part::HeadWait(_) => vec![part],
            })
            .collect();
        self
    }

    /// Waits after so many tokens.
    pub fn wait_after_tokens(mut self, tokens: usize, wait: Duration) -> Self {
        let place = self.token_place(tokens);
        self.parts.insert(place, Part::Wait(wait));
        self
    }

    /// Closes the connection after so many tokens.
    pub fn cut_after_tokens(self, tokens: usize) -> Self {
        self.end_after_tokens(tokens, End::Close)
    }

    /// Resets the connection after so many tokens.
    pub fn reset_after_tokens(self, tokens: usize) -> Self {
        self.end_after_tokens(tokens, End::Reset)
    }

    /// Sends nothing more after so many tokens, and keeps the connection open.
    pub fn stall_after_tokens(self, tokens: usize) -> Self {
        self.end_after_tokens(tokens, End::Stall)
    }

    fn end_after_tokens(mut self, tokens: usize, end: End) -> Self {
        self.parts.truncate(self.token_place(tokens));
        self.end = end;
        self
    }

    /// Closes the connection after so many bytes of the body, of which the head claims more.
    pub fn cut_after_bytes(mut self, bytes: usize) -> Self {
        self.length_claimed = Some(self.body_bytes());
        let mut left = bytes;
        for part in &mut self.parts {
            if let Part::Bytes(bytes) | Part::Token(bytes) = part {
                bytes.truncate(left);
                left -= bytes.len();
            }
        }
        self.end = End::Close;
        self
    }

    /// Puts a line that is no event between the tokens; what comes after it is whole.
    pub fn malformed_line_after(self, tokens: usize) -> Self {
        self.line_after(tokens, "data: {\"choices\": [{\"delta\": \n\n")
    }

    /// Puts any bytes between the tokens.
    pub fn line_after(mut self, tokens: usize, line: &str) -> Self {
        let place = self.token_place(tokens);
        self.parts.insert(place, Part::Bytes(line.as_bytes().to_vec()));
        self
    }

    /// Ends the stream properly after so many tokens, with an error in OpenAI's form in place of the rest.
    pub fn error_event_after(self, tokens: usize, message: &str) -> Self {
        let error = json!({ "error": { "message": message, "type": "server_error", "code": null } });
        self.ending_after(tokens, &data(&error))
    }

    /// Ends the stream properly after so many tokens, with an error in Anthropic's form in place of the rest.
    pub fn anthropic_error_event_after(self, tokens: usize, message: &str) -> Self {
        let error = json!({ "type": "error", "error": { "type": "overloaded_error", "message": message } });
        self.ending_after(tokens, &event(&error))
    }

    /// Ends the body properly after so many tokens: no finish reason, no end mark.
    pub fn ends_early_after(self, tokens: usize) -> Self {
        self.ending_after(tokens, b"")
    }

    fn ending_after(mut self, tokens: usize, last: &[u8]) -> Self {
        self.parts.truncate(self.token_place(tokens));
        self.parts.push(Part::Bytes(last.to_vec()));
        self
    }

    /// Says nothing of the body's length: the end of the connection is its end.
    pub fn until_close(mut self) -> Self {
        self.framing = Framing::UntilClose;
        if self.end == End::Clean {
            self.end = End::Close;
        }
        self
    }

    /// Returns the place after so many tokens: of the next token, or of what follows the last one.
    fn token_place(&self, tokens: usize) -> usize {
        let mut places = self.parts.iter().enumerate().filter(|(_, part)| matches!(part, Part::Token(_)));
        let last = places.clone().next_back().map_or(self.parts.len(), |(place, _)| place + 1);
        places.nth(tokens).map_or(last, |(place, _)| place)
    }

    fn body_bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Bytes(bytes) | Part::Token(bytes) => bytes.len(),
            Part::Wait(_) | Part::HeadWait(_) => 0,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// Returns what follows the last act.
    pub fn end(&self) -> End {
        self.end
    }

    /// Returns what is done on the wire, in order.
    pub fn acts(&self) -> Vec<Act> {
        let head_wait = |part: &Part| match part {
            Part::HeadWait(wait) => Some(Act::Wait(*wait)),
            Part::Bytes(_) | Part::Token(_) | Part::Wait(_) => None,
        };
        let mut acts: Vec<Act> = self.parts.iter().filter_map(head_wait).collect();
        acts.push(Act::Send(self.head()));
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) | Part::Token(bytes) if bytes.is_empty() => {}
                Part::Bytes(bytes) | Part::Token(bytes) => acts.push(Act::Send(self.framed(bytes))),
                Part::Wait(wait) => acts.push(Act::Wait(*wait)),
                Part::HeadWait(_) => {}
            }
        }
        if self.framing == Framing::Chunked && self.end == End::Clean {
            acts.push(Act::Send(b"0\r\n\r\n".to_vec()));
        }
        acts
    }

    fn framed(&self, bytes: &[u8]) -> Vec<u8> {
        match self.framing {
            Framing::Length | Framing::UntilClose => bytes.to_vec(),
            Framing::Chunked => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(bytes);
                chunk.extend_from_slice(b"\r\n");
                chunk
            }
        }
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.framing {
            Framing::Length => {
                let length = self.length_claimed.unwrap_or_else(|| self.body_bytes());
                head += &format!("content-length: {length}\r\n");
            }
            Framing::Chunked => head += "transfer-encoding: chunked\r\n",
            Framing::UntilClose => head += "connection: close\r\n",
        }
        head += "\r\n";
        head.into_bytes()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

fn event(value: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap()).into_bytes()
}

fn openai_chunk(choices: Value, usage: Value) -> Value {
    let mut chunk = json!({
        "id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "upstream-1",
    });
    chunk["choices"] = choices;
    chunk["usage"] = usage;
    chunk
}

fn anthropic_message(content: Value, stop: Value, input: u64, output: u64) -> Value {
    let mut message = json!({
        "id": "msg_upstream", "type": "message", "role": "assistant", "model": "upstream-1",
        "stop_sequence": null, "usage": { "input_tokens": input, "output_tokens": output },
    });
    message["content"] = content;
    message["stop_reason"] = stop;
    message
}
