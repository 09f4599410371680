//! What a host finds in the component.

use std::{cell::OnceCell, rc::Rc};

use wasip3::{
    http::types::{ErrorCode, Request, Response},
    random::random,
};

use crate::{answers, exchange, gate, gate::ServiceGate, settings::ServiceSettings};

struct HttpService;

wasip3::http::service::export!(HttpService);

thread_local! {
    /// An instance has one thread. What is wrong with the settings stays so.
    static GATE: OnceCell<Result<Rc<ServiceGate>, String>> = const { OnceCell::new() };
}

impl wasip3::exports::http::handler::Guest for HttpService {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let gate = GATE.with(|gate| gate.get_or_init(configured).clone());
        Ok(match gate {
            Ok(gate) => exchange::answer(&gate, request).await,
            Err(mistakes) => answers::of_text(500, &mistakes),
        })
    }
}

fn configured() -> Result<Rc<ServiceGate>, String> {
    slidegate_engine::seed(random::get_random_u64());
    let variable = |name: &str| std::env::var(name).ok();
    let settings = ServiceSettings::read(variable).map_err(|mistakes| {
        mistakes.iter().for_each(|mistake| gate::say("error", mistake));
        mistakes.join("\n")
    })?;
    Ok(ServiceGate::new(settings))
}
