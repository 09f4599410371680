//! One VM: an instance of a plugin's code, entered by hooks one at a time, with its root contexts and the contexts of
//! the streams it sees.

mod guest;
mod state;

use std::rc::Rc;

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::{
    abi::{BodyAction, Direction, HeadersAction, LogLevel},
    gateway::Plugin,
    stream::{StreamId, StreamRef},
};

pub(super) use self::{
    guest::Guest,
    state::{Action, Clock, Context, HttpReply, LocalReply, Root, Services, StreamContext, Tick, VmState},
};

pub(super) struct Vm {
    store: Store<VmState>,
    instance: Instance,
    hooks: Hooks,
    /// Why it runs no more.
    failed: Option<String>,
    /// Plugins that live here.
    pub(super) key: (String, u64, Vec<(String, String)>),
}

/// A hook that came back, with what it asked for.
struct Entered<R> {
    result: R,
    /// It answered a stream, so its own opinion does not count.
    answered: bool,
}

macro_rules! hooks {
    ($($name:ident: $export:literal, $parameters:ty => $results:ty;)*) => {
        /// What the code exports. A missing one is skipped.
        struct Hooks { $($name: Option<TypedFunc<$parameters, $results>>,)* }

        impl Hooks {
            fn find(store: &mut Store<VmState>, instance: &Instance) -> Result<Self, String> {
                Ok(Hooks { $($name: hook(store, instance, $export)?,)* })
            }
        }
    };
}

hooks! {
    context_create: "proxy_on_context_create", (u32, u32) => ();
    vm_start: "proxy_on_vm_start", (u32, u32) => i32;
    configure: "proxy_on_configure", (u32, u32) => i32;
    tick: "proxy_on_tick", u32 => ();
    queue_ready: "proxy_on_queue_ready", (u32, u32) => ();
    request_headers: "proxy_on_request_headers", (u32, u32, u32) => i32;
    request_body: "proxy_on_request_body", (u32, u32, u32) => i32;
    request_trailers: "proxy_on_request_trailers", (u32, u32) => i32;
    response_headers: "proxy_on_response_headers", (u32, u32, u32) => i32;
    response_body: "proxy_on_response_body", (u32, u32, u32) => i32;
    response_trailers: "proxy_on_response_trailers", (u32, u32) => i32;
    http_call_response: "proxy_on_http_call_response", (u32, u32, u32, u32, u32) => ();
    redis_call_response: "proxy_on_redis_call_response", (u32, u32, u32, u32) => ();
    done: "proxy_on_done", u32 => i32;
    log: "proxy_on_log", u32 => ();
    delete: "proxy_on_delete", u32 => ();
}

fn hook<P: WasmParams, R: WasmResults>(
    store: &mut Store<VmState>,
    instance: &Instance,
    name: &str,
) -> Result<Option<TypedFunc<P, R>>, String> {
    match instance.get_func(&mut *store, name) {
        None => Ok(None),
        Some(function) => {
            function.typed(&*store).map(Some).map_err(|error| format!("`{name}` has another signature: {error:#}"))
        }
    }
}

impl Vm {
    /// Instantiates and initialises the plugin's code. No hook has run yet.
    pub(super) fn new(serial: u64, plugin: &Plugin, services: Services) -> Result<Self, String> {
        let state = VmState::new(serial, plugin, services);
        let mut store = Store::new(plugin.module.pre().module().engine(), state);
        let instance = plugin
            .module
            .pre()
            .instantiate(&mut store)
            .map_err(|error| format!("cannot be instantiated: {error:#}"))?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("exports no `memory`")?;
        let allocate = match hook(&mut store, &instance, "malloc")? {
            Some(malloc) => malloc,
            None => hook(&mut store, &instance, "proxy_on_memory_allocate")?.ok_or("exports no allocator")?,
        };
        store.data_mut().attach(memory, allocate);
        let hooks = Hooks::find(&mut store, &instance)?;
        let mut vm = Vm { store, instance, hooks, failed: None, key: vm_key(plugin) };
        vm.initialise().map_err(|error| format!("fails to start: {error:#}"))?;
        vm.store.data_mut().starting = false;
        Ok(vm)
    }

    fn initialise(&mut self) -> wasmtime::Result<()> {
        let (store, instance) = (&mut self.store, &self.instance);
        match instance.get_typed_func::<(), ()>(&mut *store, "_initialize") {
            Ok(initialise) => {
                initialise.call(&mut *store, ())?;
                if let Ok(main) = instance.get_typed_func::<(i32, i32), i32>(&mut *store, "main") {
                    main.call(&mut *store, (0, 0))?;
                }
            }
            Err(_) => {
                if let Ok(start) = instance.get_typed_func::<(), ()>(&mut *store, "_start") {
                    start.call(&mut *store, ())?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn serial(&self) -> u64 {
        self.state().serial
    }

    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.state().memory().data_size(&self.store)
    }

    pub(super) fn state(&self) -> &VmState {
        self.store.data()
    }

    pub(super) fn state_mut(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.state_mut().actions)
    }

    /// Makes a root context, starts the VM if this is its first, and configures the plugin. Returns the context's id.
    pub(super) fn configure(&mut self, plugin: &Plugin) -> Result<u32, String> {
        let is_first = self.state().roots().next().is_none();
        let root = self.state_mut().add(Context::Root(Root::new(plugin)));
        self.enter(root, |hooks| hooks.context_create.clone(), (root, 0));
        if is_first {
            let size = self.state().vm_config.len() as u32;
            self.accepted(root, |hooks| hooks.vm_start.clone(), size, "proxy_on_vm_start")?;
        }
        self.state_mut().root_mut(root).configuring = true;
        let accepted =
            self.accepted(root, |hooks| hooks.configure.clone(), plugin.config.len() as u32, "proxy_on_configure");
        if self.failed.is_none() {
            self.state_mut().root_mut(root).configuring = false;
        }
        accepted.map(|()| root)
    }

    fn accepted(
        &mut self,
        root: u32,
        hook: impl Fn(&Hooks) -> Option<TypedFunc<(u32, u32), i32>>,
        size: u32,
        name: &str,
    ) -> Result<(), String> {
        let entered = self.enter(root, hook, (root, size));
        match (&self.failed, entered) {
            (Some(reason), _) => Err(format!("`{name}` trapped: {reason}")),
            (None, Some(Entered { result: 0, .. })) => Err(format!("`{name}` refused")),
            (None, _) => Ok(()),
        }
    }

    /// Enters the guest: nothing else may, until this is over. None: there is no such hook, or the VM has failed, now
    /// or before.
    fn enter<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        hook: impl Fn(&Hooks) -> Option<TypedFunc<P, R>>,
        parameters: P,
    ) -> Option<Entered<R>> {
        if self.failed.is_some() {
            return None;
        }
        let function = hook(&self.hooks)?;
        self.state_mut().begin(context);
        let result = function.call(&mut self.store, parameters);
        let answered = self.state_mut().end();
        match result {
            Ok(result) => Some(Entered { result, answered }),
            Err(error) => {
                let reason = format!("{error:#}");
                self.state_mut().log(LogLevel::Critical, &format!("wasm VM failed: {reason}"));
                self.failed = Some(reason);
                None
            }
        }
    }

    // === a stream's life ===

    pub(super) fn create_stream(&mut self, root: u32, stream: &StreamRef, filter: usize) -> u32 {
        let context = StreamContext { root, stream: Rc::clone(stream), filter };
        let id = self.state_mut().add(Context::Stream(context));
        self.enter(id, |hooks| hooks.context_create.clone(), (id, root));
        id
    }

    pub(super) fn on_headers(&mut self, context: u32, direction: Direction, count: usize, end: bool) -> HeadersAction {
        let hook = |hooks: &Hooks| match direction {
            Direction::Request => hooks.request_headers.clone(),
            Direction::Response => hooks.response_headers.clone(),
        };
        let version = self.state().version;
        match self.enter(context, hook, (context, count as u32, end.into())) {
            None => HeadersAction::Continue,
            Some(Entered { answered: true, .. }) => HeadersAction::StopAllWatermark,
            Some(Entered { result, .. }) => HeadersAction::read(result, version),
        }
    }

    pub(super) fn on_body(&mut self, context: u32, direction: Direction, size: usize, end: bool) -> BodyAction {
        let hook = |hooks: &Hooks| match direction {
            Direction::Request => hooks.request_body.clone(),
            Direction::Response => hooks.response_body.clone(),
        };
        match self.enter(context, hook, (context, size as u32, end.into())) {
            None => BodyAction::Continue,
            Some(Entered { answered: true, .. }) => BodyAction::StopNoBuffer,
            Some(Entered { result, .. }) => BodyAction::read(result),
        }
    }

    /// Whether the trailers may go on.
    pub(super) fn on_trailers(&mut self, context: u32, direction: Direction, count: usize) -> bool {
        let hook = |hooks: &Hooks| match direction {
            Direction::Request => hooks.request_trailers.clone(),
            Direction::Response => hooks.response_trailers.clone(),
        };
        self.enter(context, hook, (context, count as u32))
            .is_none_or(|entered| !entered.answered && entered.result == 0)
    }

    pub(super) fn on_log(&mut self, context: u32) {
        self.enter(context, |hooks| hooks.log.clone(), context);
    }

    /// Of a stream, whose answer means nothing, or of a root: whether it may be deleted now.
    pub(super) fn on_done(&mut self, context: u32) -> bool {
        self.enter(context, |hooks| hooks.done.clone(), context).is_none_or(|entered| entered.result != 0)
    }

    pub(super) fn delete(&mut self, context: u32) {
        self.enter(context, |hooks| hooks.delete.clone(), context);
        self.state_mut().contexts.remove(&context);
    }

    // === callbacks ===

    /// Status 1 carries no reply.
    pub(super) fn on_redis_reply(&mut self, root: u32, token: u32, status: u32, reply: Vec<u8>) {
        let size = reply.len() as u32;
        self.state_mut().root_mut(root).redis_reply = Some(reply);
        if status != 0 {
            self.state_mut().broken = true;
        }
        self.enter(root, |hooks| hooks.redis_call_response.clone(), (root, token, status, size));
        self.state_mut().root_mut(root).redis_reply = None;
        self.state_mut().broken = false;
    }

    /// None: the call failed.
    pub(super) fn on_http_reply(&mut self, root: u32, token: u32, reply: Option<HttpReply>) {
        let counts =
            reply.as_ref().map_or((0, 0, 0), |reply| (reply.headers.len(), reply.body.len(), reply.trailers.len()));
        let state = self.state_mut();
        state.broken = reply.is_none();
        state.root_mut(root).http_reply = reply;
        let parameters = (root, token, counts.0 as u32, counts.1 as u32, counts.2 as u32);
        self.enter(root, |hooks| hooks.http_call_response.clone(), parameters);
        self.state_mut().root_mut(root).http_reply = None;
        self.state_mut().broken = false;
    }

    pub(super) fn on_queue_ready(&mut self, root: u32, token: u32) {
        self.enter(root, |hooks| hooks.queue_ready.clone(), (root, token));
    }

    pub(super) fn on_tick(&mut self, root: u32) {
        self.enter(root, |hooks| hooks.tick.clone(), root);
    }

    /// The streams that it holds contexts of.
    pub(super) fn streams(&self) -> Vec<StreamId> {
        self.state()
            .contexts
            .values()
            .filter_map(|context| context.stream().map(|stream| stream.stream.borrow().id))
            .collect()
    }
}

/// Plugins of the same key live in one VM.
pub(super) fn vm_key(plugin: &Plugin) -> (String, u64, Vec<(String, String)>) {
    (plugin.vm_id.clone(), plugin.module.hash(), plugin.environment.clone())
}
