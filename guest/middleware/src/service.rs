//! What a host finds in the component.

use std::{cell::OnceCell, rc::Rc};

use wasip3::http::types::{ErrorCode, Request, Response};

use crate::{answers, exchange, gate, gate::Gate, settings::Settings};

struct Service;

wasip3::http::service::export!(Service);

thread_local! {
    /// An instance has one thread. What is wrong with the settings stays so.
    static GATE: OnceCell<Result<Rc<Gate>, String>> = const { OnceCell::new() };
}

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let gate = GATE.with(|gate| gate.get_or_init(configured).clone());
        Ok(match gate {
            Ok(gate) => exchange::answer(&gate, request).await,
            Err(mistakes) => answers::of_text(500, &mistakes),
        })
    }
}

fn configured() -> Result<Rc<Gate>, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let settings = Settings::read(variable).map_err(|mistakes| {
        mistakes.iter().for_each(|mistake| gate::say("error", mistake));
        mistakes.join("\n")
    })?;
    Ok(Gate::new(settings))
}
