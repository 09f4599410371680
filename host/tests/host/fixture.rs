//! The component of `filter.wat`, and requests for it.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, Method};
use slidegate::{HttpRequest, Module, Request, Response, Verdict};
use wit_component::{ComponentEncoder, StringEncoding};

static MODULE: LazyLock<Module> = LazyLock::new(|| Module::from_bytes(&component()).unwrap());

/// The component, compiled once for all tests.
pub(crate) fn module() -> &'static Module {
    &MODULE
}

/// The component, in binary form.
pub(crate) fn component() -> Vec<u8> {
    let mut module = wat::parse_str(include_str!("filter.wat")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(wit).unwrap();
    let world = resolve.select_world(&[package], Some("slidegate")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A request whose path says what the fixture does with it.
pub(crate) fn request(path: &str) -> Arc<dyn Request> {
    Arc::new(HttpRequest::new(Method::GET, path.parse().unwrap(), HeaderMap::new()))
}

/// The status of an answer; 0 for a verdict that is none.
pub(crate) fn status(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::Pass(_) => 0,
        Verdict::Respond(Response { status, .. }) => *status,
    }
}
