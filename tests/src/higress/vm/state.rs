//! What a VM's host functions work on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use wasmtime::{Memory, TypedFunc};

use crate::higress::{
    abi::{Direction, LogLevel, Version},
    gateway::{Directory, HttpMessage, LogLine, Plugin},
    headers::Headers,
    redis::{Clients, Owner},
    shared::Shared,
    stream::StreamRef,
};

/// What a worker lends to each of its VMs.
#[derive(Clone)]
pub(in crate::higress) struct Services {
    pub(in crate::higress) clients: Rc<RefCell<Clients>>,
    pub(in crate::higress) directory: Directory,
    pub(in crate::higress) shared: Shared,
    pub(in crate::higress) clock: Rc<Clock>,
    pub(in crate::higress) log: Rc<RefCell<Vec<LogLine>>>,
    pub(in crate::higress) log_level: LogLevel,
}

/// The machine's clock, or one that stands still until it is set.
pub(in crate::higress) struct Clock {
    set: Cell<Option<u64>>,
    started: Instant,
}

pub(in crate::higress) struct VmState {
    memory: Option<Memory>,
    allocate: Option<TypedFunc<u32, u32>>,
    pub(in crate::higress) version: Version,
    pub(in crate::higress) serial: u64,
    pub(in crate::higress) vm_id: String,
    pub(in crate::higress) vm_config: Vec<u8>,
    pub(in crate::higress) environment: Vec<(String, String)>,
    pub(in crate::higress) services: Services,
    /// Only `proxy_log` and WASI may be called yet.
    pub(in crate::higress) starting: bool,
    pub(in crate::higress) contexts: BTreeMap<u32, Context>,
    last_context: u32,
    /// Which context the host entered, and which the guest chose since; 0 for none.
    current: u32,
    effective: u32,
    answered: bool,
    /// Inside a callback of a call that failed.
    pub(in crate::higress) broken: bool,
    pub(in crate::higress) actions: Vec<Action>,
    last_call: u32,
    /// Names by id.
    pub(in crate::higress) metrics: BTreeMap<u32, String>,
    /// Which root wants to hear of which queue.
    pub(in crate::higress) queues: Vec<(u32, u32)>,
}

pub(in crate::higress) enum Context {
    Root(Root),
    Stream(StreamContext),
}

/// A plugin in this VM.
pub(in crate::higress) struct Root {
    pub(in crate::higress) plugin: String,
    config: Vec<u8>,
    pub(in crate::higress) configuring: bool,
    pub(in crate::higress) redis_reply: Option<Vec<u8>>,
    pub(in crate::higress) http_reply: Option<HttpReply>,
    pub(in crate::higress) tick: Option<Tick>,
    /// It said that it is not done yet.
    pub(in crate::higress) leaving: bool,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::higress) struct Tick {
    pub(in crate::higress) period_ns: u64,
    pub(in crate::higress) due_ns: u64,
}

#[derive(Clone)]
pub(in crate::higress) struct StreamContext {
    pub(in crate::higress) root: u32,
    pub(in crate::higress) stream: StreamRef,
    pub(in crate::higress) filter: usize,
}

pub(in crate::higress) type HttpReply = HttpMessage;

/// What is done once the guest has returned.
pub(in crate::higress) enum Action {
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
pub(in crate::higress) struct LocalReply {
    pub(in crate::higress) status: u32,
    pub(in crate::higress) details: Vec<u8>,
    pub(in crate::higress) body: Vec<u8>,
    pub(in crate::higress) headers: Headers,
    pub(in crate::higress) grpc_status: u32,
}

// === impl Clock ===

impl Clock {
    pub(in crate::higress) fn new() -> Self {
        Clock { set: Cell::new(None), started: Instant::now() }
    }

    pub(in crate::higress) fn set(&self, now_ns: u64) {
        self.set.set(Some(now_ns));
    }

    /// Nanoseconds since 1970.
    pub(in crate::higress) fn wall_ns(&self) -> u64 {
        self.set.get().unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
    }

    /// Nanoseconds since whenever, never running backwards unless set so.
    pub(in crate::higress) fn monotonic_ns(&self) -> u64 {
        self.set.get().unwrap_or_else(|| self.started.elapsed().as_nanos() as u64)
    }
}

// === impl Root ===

impl Root {
    pub(in crate::higress) fn new(plugin: &Plugin) -> Self {
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
    pub(in crate::higress) fn config(&self) -> Option<&[u8]> {
        self.configuring.then_some(&self.config)
    }
}

impl Context {
    pub(in crate::higress) fn stream(&self) -> Option<&StreamContext> {
        match self {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }
}

// === impl VmState ===

impl VmState {
    pub(in crate::higress) fn new(serial: u64, plugin: &Plugin, services: Services) -> Self {
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
    pub(in crate::higress) fn choose(&mut self, context: u32) -> bool {
        let known = context == 0 || self.contexts.contains_key(&context);
        if known {
            self.effective = context;
        }
        known
    }

    /// The context that host calls act on.
    pub(in crate::higress) fn context(&self) -> Option<(u32, &Context)> {
        let chosen = self.contexts.get(&self.effective).map(|context| (self.effective, context));
        chosen.or_else(|| self.contexts.get(&self.current).map(|context| (self.current, context)))
    }

    /// The stream that host calls act on, if it is one.
    pub(in crate::higress) fn stream(&self) -> Option<StreamContext> {
        self.context().and_then(|(_, context)| context.stream().cloned())
    }

    /// The root that host calls act on; the first, where there is no context yet.
    pub(in crate::higress) fn root_id(&self) -> u32 {
        match self.context() {
            Some((id, Context::Root(_))) => id,
            Some((_, Context::Stream(stream))) => stream.root,
            None => self.roots().next().unwrap_or(0),
        }
    }

    pub(in crate::higress) fn roots(&self) -> impl Iterator<Item = u32> {
        self.contexts.iter().filter(|(_, context)| matches!(context, Context::Root(_))).map(|(id, _)| *id)
    }

    pub(in crate::higress) fn root(&self, id: u32) -> Option<&Root> {
        match self.contexts.get(&id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    pub(in crate::higress) fn root_mut(&mut self, id: u32) -> &mut Root {
        match self.contexts.get_mut(&id) {
            Some(Context::Root(root)) => root,
            _ => panic!("{id} is no root context"),
        }
    }

    pub(in crate::higress) fn owner(&self) -> Owner {
        Owner { vm: self.serial, root: self.root_id() }
    }

    /// The next token, of HTTP calls (0) or of Redis calls (3).
    pub(in crate::higress) fn token(&mut self, kind: u32) -> u32 {
        self.last_call += 1;
        self.last_call << 2 | kind
    }

    pub(in crate::higress) fn answers(&mut self) {
        self.answered = true;
    }

    pub(in crate::higress) fn log(&self, level: LogLevel, text: &str) {
        if level >= self.services.log_level {
            let plugin = self.root(self.root_id()).map(|root| root.plugin.clone()).unwrap_or_default();
            self.services.log.borrow_mut().push(LogLine { level, plugin, text: text.to_owned() });
        }
    }
}
