//! The contexts that the gateway calls: a root for each configuration, below it one for each stream.

use std::{alloc::System, cell::RefCell, mem::ManuallyDrop};

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::Action,
};
use slidegate_allocator::FreeLists;

use crate::{
    envoy::Envoy,
    filter::{Filter, Flow},
    gateway::Side,
    statistics::Statistics,
};

#[global_allocator]
static ALLOCATOR: FreeLists<System> = FreeLists::system();

/// What is kept in one virtual machine.
#[derive(Default)]
struct Plugin {
    /// By root context; seldom more than two. What drops one is there once.
    filters: Vec<(u32, ManuallyDrop<Filter<Envoy>>)>,
    statistics: Statistics,
}

impl Plugin {
    fn filter(&mut self, root: u32) -> Option<&mut Filter<Envoy>> {
        self.filters.iter_mut().find_map(|(each, filter)| (*each == root).then_some(&mut **filter))
    }

    /// Has a root go by this filter, or by none.
    fn replace(&mut self, root: u32, filter: Option<Filter<Envoy>>) {
        if let Some(at) = self.filters.iter().position(|(each, _)| *each == root) {
            ManuallyDrop::into_inner(self.filters.swap_remove(at).1).discard();
        }
        self.filters.extend(filter.map(|filter| (root, ManuallyDrop::new(filter))));
    }
}

thread_local! {
    static PLUGIN: RefCell<Plugin> = RefCell::default();
}

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(Root { id }));
    proxy_wasm::set_http_context(|id, root| Box::new(StreamContext { id, root }));
}}

/// Answers to a Redis call, by the root context that made it. `status` 0: a reply of `size` bytes is there to be read.
#[expect(unsafe_code, reason = "SAFETY: the gateway calls it by this name, and nothing else in the module has it")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_redis_call_response(root: u32, token: u32, status: u32, size: u32) {
    with_filter(root, |filter| filter.on_redis_reply(token, status, size));
}

struct Root {
    id: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let json = Envoy.configuration(size);
        with_plugin(|plugin| {
            let Some(filter) = Filter::configure(Envoy, &mut plugin.statistics, &json) else { return false };
            if let Some(earlier) = plugin.filter(self.id) {
                earlier.retire();
            }
            plugin.replace(self.id, Some(filter));
            true
        })
        .unwrap_or(false)
    }

    fn on_tick(&mut self) {
        with_filter(self.id, Filter::on_tick);
    }
}

/// The gateway drops what is on its way for a root that it deletes.
impl Drop for Root {
    fn drop(&mut self) {
        with_filter(self.id, Filter::retire);
        with_plugin(|plugin| plugin.replace(self.id, None));
    }
}

struct StreamContext {
    id: u32,
    root: u32,
}

impl Context for StreamContext {
    fn on_done(&mut self) -> bool {
        with_filter(self.root, |filter| filter.on_done(self.id));
        true
    }
}

impl HttpContext for StreamContext {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        // With the interface's version 0.2.1 a pause stops all of the request, its body too.
        self.hook(|filter, id| filter.on_request(id, end_of_stream))
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.hook(|filter, id| filter.on_body(id, Side::Request, size, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.hook(|filter, id| filter.on_trailers(id, Side::Request))
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.hook(|filter, id| filter.on_response_headers(id, end_of_stream))
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.hook(|filter, id| filter.on_body(id, Side::Response, size, end_of_stream))
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.hook(|filter, id| filter.on_trailers(id, Side::Response))
    }
}

impl StreamContext {
    fn hook(&self, hook: impl FnOnce(&mut Filter<Envoy>, u32) -> Flow) -> Action {
        match with_filter(self.root, |filter| hook(filter, self.id)) {
            Some(Flow::Stop) => Action::Pause,
            Some(Flow::Continue) | None => Action::Continue,
        }
    }
}

/// For a gateway that deletes a stream without asking whether it is done.
impl Drop for StreamContext {
    fn drop(&mut self) {
        with_filter(self.root, |filter| filter.on_done(self.id));
    }
}

/// Runs `step` on a root's filter. None if there is none, as for a configuration that was refused: then every stream
/// passes.
fn with_filter<T>(root: u32, step: impl FnOnce(&mut Filter<Envoy>) -> T) -> Option<T> {
    with_plugin(|plugin| plugin.filter(root).map(step))?
}

/// The gateway does not call back into a call that is still running, so the plugin is always free; if it did, nothing
/// would be done rather than fail the virtual machine.
fn with_plugin<T>(step: impl FnOnce(&mut Plugin) -> T) -> Option<T> {
    PLUGIN.try_with(|plugin| plugin.try_borrow_mut().ok().map(|mut plugin| step(&mut plugin))).ok()?
}
