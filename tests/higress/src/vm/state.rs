//! What a VM's host functions work on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use wasmtime::{Memory, TypedFunc};

use crate::{
    abi::{Direction, LogLevel, Version},
    gateway::{Directory, HttpMessage, LogLine, Plugin},
    headers::Headers,
    redis::{Clients, Owner},
    shared::Shared,
    stream::StreamRef,
};

/// What a worker lends to each of its VMs.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) clients: Rc<RefCell<Clients>>,
    pub(crate) directory: Directory,
    pub(crate) shared: Shared,
    pub(crate) clock: Rc<Clock>,
    pub(crate) log: Rc<RefCell<Vec<LogLine>>>,
    pub(crate) log_level: LogLevel,
}

/// The machine's clock, or one that stands still until it is set.
pub(crate) struct Clock {
    set: Cell<Option<u64>>,
    started: Instant,
}

pub(crate) struct VmState {
    memory: Option<Memory>,
    allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) version: Version,
    pub(crate) serial: u64,
    pub(crate) vm_id: String,
    pub(crate) vm_config: Vec<u8>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) services: Services,
    /// Only `proxy_log` and WASI may be called yet.
    pub(crate) starting: bool,
    pub(crate) contexts: BTreeMap<u32, Context>,
    last_context: u32,
    /// Which context the host entered, and which the guest chose since; 0 for none.
    current: u32,
    effective: u32,
    answered: bool,
    /// Inside a callback of a call that failed.
    pub(crate) broken: bool,
    pub(crate) actions: Vec<Action>,
    last_call: u32,
    /// Names by id.
    pub(crate) metrics: BTreeMap<u32, String>,
    /// Which root wants to hear of which queue.
    pub(crate) queues: Vec<(u32, u32)>,
}

pub(crate) enum Context {
    Root(Root),
    Stream(StreamContext),
}

/// A plugin in this VM.
pub(crate) struct Root {
    pub(crate) plugin: String,
    config: Vec<u8>,
    pub(crate) configuring: bool,
    pub(crate) redis_reply: Option<Vec<u8>>,
    pub(crate) http_reply: Option<HttpReply>,
    pub(crate) tick: Option<Tick>,
    /// It said that it is not done yet.
    pub(crate) leaving: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) period_ns: u64,
    pub(crate) due_ns: u64,
}

#[derive(Clone)]
pub(crate) struct StreamContext {
    pub(crate) root: u32,
    pub(crate) stream: StreamRef,
    pub(crate) filter: usize,
}

pub(crate) type HttpReply = HttpMessage;

/// What is done once the guest has returned.
pub(crate) enum Action {
    Continue(StreamContext, Direction),
    Respond(StreamContext, LocalReply),
    Reset(StreamContext),
    Inject(StreamContext, Vec<u8>, bool),
    /// Something is in a queue.
    Enqueued(u32),
    HttpCall {
        owner: Owner,
        token: u32,
        cluster: String,
        request: HttpMessage,
    },
    /// A root that left may be deleted.
    Done(u32),
}

#[derive(Debug, Clone)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) details: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Headers,
    pub(crate) grpc_status: u32,
}

// === impl Clock ===

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { set: Cell::new(None), started: Instant::now() }
    }

    pub(crate) fn set(&self, now_ns: u64) {
        self.set.set(Some(now_ns));
    }

    /// Nanoseconds since 1970.
    pub(crate) fn wall_ns(&self) -> u64 {
        self.set
            .get()
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
    }

    /// Nanoseconds since whenever, never running backwards unless set so.
    pub(crate) fn monotonic_ns(&self) -> u64 {
        self.set.get().unwrap_or_else(|| self.started.elapsed().as_nanos() as u64)
    }
}

// === impl Root ===

impl Root {
    pub(crate) fn new(plugin: &Plugin) -> Self {
        Root {
            plugin: plugin.name.clone(),
            config: plugin.config.clone(),
            configuring: false,
            redis_reply: None,
            http_reply: None,
            tick: None,
            leaving: false,
        }
    }

    /// Only while it is being configured.
    pub(crate) fn config(&self) -> Option<&[u8]> {
        self.configuring.then_some(&self.config)
    }
}

impl Context {
    pub(crate) fn stream(&self) -> Option<&StreamContext> {
        match self {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }
}

// === impl VmState ===

impl VmState {
    pub(crate) fn new(serial: u64, plugin: &Plugin, services: Services) -> Self {
        VmState {
            memory: None,
            allocate: None,
            version: plugin.module.version(),
            serial,
            vm_id: plugin.vm_id.clone(),
            vm_config: Vec::new(),
            environment: plugin.environment.clone(),
            services,
            starting: true,
            contexts: BTreeMap::new(),
            last_context: 0,
            current: 0,
            effective: 0,
            answered: false,
            broken: false,
            actions: Vec::new(),
            last_call: 0,
            metrics: BTreeMap::new(),
            queues: Vec::new(),
        }
    }

    pub(super) fn attach(&mut self, memory: Memory, allocate: TypedFunc<u32, u32>) {
        self.memory = Some(memory);
        self.allocate = Some(allocate);
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory.expect("a VM that runs has its memory")
    }

    /// None during instantiation.
    pub(super) fn parts(&self) -> Option<(Memory, TypedFunc<u32, u32>)> {
        Some((self.memory?, self.allocate.clone()?))
    }

    pub(super) fn add(&mut self, context: Context) -> u32 {
        self.last_context += 1;
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    pub(super) fn begin(&mut self, context: u32) {
        self.current = context;
        self.effective = 0;
        self.answered = false;
    }

    /// Whether a stream was answered in between.
    pub(super) fn end(&mut self) -> bool {
        self.current = 0;
        self.effective = 0;
        std::mem::take(&mut self.answered)
    }

    /// The allocator is an entry too: it starts without an effective context, and leaves the one that was.
    pub(super) fn swap_effective(&mut self, effective: u32) -> u32 {
        std::mem::replace(&mut self.effective, effective)
    }

    /// Whether there is such a context.
    pub(crate) fn choose(&mut self, context: u32) -> bool {
        let known = context == 0 || self.contexts.contains_key(&context);
        if known {
            self.effective = context;
        }
        known
    }

    /// The context that host calls act on.
    pub(crate) fn context(&self) -> Option<(u32, &Context)> {
        let chosen = self.contexts.get(&self.effective).map(|context| (self.effective, context));
        chosen.or_else(|| self.contexts.get(&self.current).map(|context| (self.current, context)))
    }

    /// The stream that host calls act on, if it is one.
    pub(crate) fn stream(&self) -> Option<StreamContext> {
        self.context().and_then(|(_, context)| context.stream().cloned())
    }

    /// The root that host calls act on; the first, where there is no context yet.
    pub(crate) fn root_id(&self) -> u32 {
        match self.context() {
            Some((id, Context::Root(_))) => id,
            Some((_, Context::Stream(stream))) => stream.root,
            None => self.roots().next().unwrap_or(0),
        }
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = u32> {
        self.contexts.iter().filter(|(_, context)| matches!(context, Context::Root(_))).map(|(id, _)| *id)
    }

    pub(crate) fn root(&self, id: u32) -> Option<&Root> {
        match self.contexts.get(&id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    pub(crate) fn root_mut(&mut self, id: u32) -> &mut Root {
        match self.contexts.get_mut(&id) {
            Some(Context::Root(root)) => root,
            _ => panic!("{id} is no root context"),
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner { vm: self.serial, root: self.root_id() }
    }

    /// The next token, of HTTP calls (0) or of Redis calls (3).
    pub(crate) fn token(&mut self, kind: u32) -> u32 {
        self.last_call += 1;
        self.last_call << 2 | kind
    }

    pub(crate) fn answers(&mut self) {
        self.answered = true;
    }

    pub(crate) fn log(&self, level: LogLevel, text: &str) {
        if level >= self.services.log_level {
            let plugin = self.root(self.root_id()).map(|root| root.plugin.clone()).unwrap_or_default();
            self.services.log.borrow_mut().push(LogLine { level, plugin, text: text.to_owned() });
        }
    }
}
