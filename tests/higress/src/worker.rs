//! One worker of a gateway: its VMs, its Redis clients, and the streams that it leads through the chain. It does
//! nothing by itself: each call leads a stream on as far as it goes, and [`Worker::pump`] and [`Worker::wait`] deliver
//! what came in the meantime.

mod answer;
mod chain;
mod events;
mod exchange;

use std::{
    cell::{Ref, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
};

use self::events::Due;
use super::{
    abi::Direction,
    gateway::{FailStrategy, Gateway, LogLine, Plugin, StartError},
    headers::Headers,
    redis::{Clients, Interceptor},
    stream::{Filter, Message, Request, Stream, StreamId, StreamRef},
    vm::{Clock, Services, Vm, vm_key},
};

pub use self::exchange::{Exchange, Upstream};

/// A worker.
pub struct Worker {
    gateway: Gateway,
    services: Services,
    vms: BTreeMap<u64, Vm>,
    last_vm: u64,
    /// Where each plugin of the chain lives.
    places: Vec<Place>,
    streams: BTreeMap<StreamId, StreamRef>,
    last_stream: StreamId,
    due: VecDeque<Due>,
    /// Roots that were replaced, and that streams may still use.
    leaving: Vec<Place>,
}

/// A plugin's VM and root context.
#[derive(Debug, Clone, Copy)]
struct Place {
    vm: u64,
    root: u32,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("vms", &self.vms.keys())
            .field("streams", &self.streams.keys())
            .finish_non_exhaustive()
    }
}

impl Worker {
    pub(super) fn start(gateway: Gateway) -> Result<Self, StartError> {
        let clients = Rc::new(RefCell::new(Clients::new(gateway.directory.clone())));
        let services = Services {
            clients,
            directory: gateway.directory.clone(),
            shared: gateway.shared.clone(),
            clock: Rc::new(Clock::new()),
            log: Rc::default(),
            log_level: gateway.log_level,
        };
        let mut worker = Worker {
            gateway,
            services,
            vms: BTreeMap::new(),
            last_vm: 0,
            places: Vec::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
            due: VecDeque::new(),
            leaving: Vec::new(),
        };
        if let Some(now_ns) = worker.gateway.clock_ns {
            worker.set_clock_ns(now_ns);
        }
        for plugin in worker.gateway.plugins.clone() {
            let place = worker.install(&plugin).map_err(|reason| worker.start_error(&plugin, reason))?;
            worker.places.push(place);
        }
        Ok(worker)
    }

    fn start_error(&self, plugin: &Plugin, reason: String) -> StartError {
        StartError { plugin: plugin.name.clone(), reason, log: self.services.log.borrow().clone() }
    }

    /// Configures a plugin in the VM of its kind, or in a new one if there is none that runs.
    fn install(&mut self, plugin: &Plugin) -> Result<Place, String> {
        let key = vm_key(plugin);
        let lives = self.vms.values().find(|vm| vm.key == key && vm.failed().is_none()).map(Vm::serial);
        let vm = match lives {
            Some(vm) => vm,
            None => {
                self.last_vm += 1;
                let vm = Vm::new(self.last_vm, plugin, self.services.clone())?;
                self.vms.insert(self.last_vm, vm);
                self.last_vm
            }
        };
        let root = self.vm(vm).configure(plugin);
        self.after_call(vm);
        Ok(Place { vm, root: root? })
    }

    // === streams ===

    /// A request's headers arrive. Its body, if it is to have one, follows by [`Worker::request_body`].
    pub fn open(&mut self, request: &Request) -> StreamId {
        let id = self.prepare(request);
        self.request_headers(id, request.body.is_empty() && request.trailers.is_none());
        id
    }

    /// A stream whose headers have not been shown to any plugin yet.
    fn prepare(&mut self, request: &Request) -> StreamId {
        self.recover();
        self.last_stream += 1;
        let now_ns = self.services.clock.wall_ns();
        let mut stream = Stream::new(self.last_stream, request, self.gateway.router.clone(), now_ns);
        stream.filters = self.places.iter().map(|place| Filter::new(place.vm, place.root)).collect();
        // A gateway has chosen a route before the first filter sees the request.
        stream.route();
        self.streams.insert(self.last_stream, Rc::new(RefCell::new(stream)));
        self.last_stream
    }

    fn request_headers(&mut self, id: StreamId, end: bool) {
        let stream = self.stream(id);
        self.headers(&stream, Direction::Request, 0, end);
        self.settle();
    }

    /// A piece of the request's body arrives.
    pub fn request_body(&mut self, id: StreamId, piece: &[u8], end: bool) {
        let stream = self.stream(id);
        stream.borrow_mut().request_size += piece.len() as u64;
        self.body(&stream, Direction::Request, 0, piece.to_vec(), end);
        self.settle();
    }

    /// The request's trailers arrive, which end it.
    pub fn request_trailers(&mut self, id: StreamId, trailers: &Headers) {
        let stream = self.stream(id);
        stream.borrow_mut().request_trailers = trailers.clone();
        self.trailers(&stream, Direction::Request, 0);
        self.settle();
    }

    /// The upstream answers. `headers` have its `:status`.
    pub fn response_headers(&mut self, id: StreamId, headers: &Headers, end: bool) {
        let stream = self.stream(id);
        if stream.borrow().response_started || stream.borrow().finished {
            return;
        }
        {
            let mut stream = stream.borrow_mut();
            stream.details = Some(b"via_upstream".to_vec());
            stream.response_headers = headers.clone();
            stream.response_started = true;
        }
        self.headers(&stream, Direction::Response, 0, end);
        self.settle();
    }

    /// A piece of the upstream's body arrives.
    pub fn response_body(&mut self, id: StreamId, piece: &[u8], end: bool) {
        let stream = self.stream(id);
        self.body(&stream, Direction::Response, 0, piece.to_vec(), end);
        self.settle();
    }

    /// The upstream's trailers arrive, which end the response.
    pub fn response_trailers(&mut self, id: StreamId, trailers: &Headers) {
        let stream = self.stream(id);
        stream.borrow_mut().response_trailers = trailers.clone();
        self.trailers(&stream, Direction::Response, 0);
        self.settle();
    }

    /// The client goes away, or a time-out ends the stream.
    pub fn abort(&mut self, id: StreamId) {
        let stream = self.stream(id);
        self.reset(&stream, "downstream_remote_disconnect");
        self.settle();
    }

    /// The upstream breaks off in the middle of its response.
    pub fn break_off(&mut self, id: StreamId) {
        let stream = self.stream(id);
        stream.borrow_mut().details = None;
        self.reset(&stream, "upstream_reset_after_response_started{connection_termination}");
        self.settle();
    }

    /// What has been sent upstream, if the request got there.
    pub fn upstream(&self, id: StreamId) -> Option<Message> {
        self.streams.get(&id)?.borrow().upstream.clone()
    }

    /// What the client has been sent, if anything.
    pub fn client(&self, id: StreamId) -> Option<Message> {
        self.streams.get(&id)?.borrow().client.clone()
    }

    /// Whether the stream is over, well or not.
    pub fn is_over(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_none_or(|stream| stream.borrow().finished)
    }

    /// Lets go of a stream that is over, and tells all about it.
    pub fn close(&mut self, id: StreamId) -> Option<Exchange> {
        if !self.is_over(id) {
            return None;
        }
        self.streams.remove(&id).map(|stream| Exchange::of(&stream.borrow()))
    }

    // === the rest of the world ===

    /// The gateway it belongs to.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// From here on the guests' clock stands at this many nanoseconds since 1970. Redis and its time-outs keep their
    /// own.
    pub fn set_clock_ns(&mut self, now_ns: u64) {
        self.services.clock.set(now_ns);
    }

    /// From here on this sees what passes between guests and Redis.
    pub fn intercept(&mut self, interceptor: impl Interceptor + 'static) {
        self.services.clients.borrow_mut().intercept(Box::new(interceptor));
    }

    /// What was logged and not looked at yet.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.services.log.borrow_mut())
    }

    /// What was logged and not taken.
    pub fn log(&self) -> Ref<'_, Vec<LogLine>> {
        self.services.log.borrow()
    }

    /// Why a plugin's VM has failed, if it has.
    pub fn failure(&self, plugin: usize) -> Option<String> {
        self.vms.get(&self.places[plugin].vm)?.failed().map(str::to_owned)
    }

    /// The linear memory of a plugin's VM, in bytes. It never shrinks.
    pub fn memory_bytes(&self, plugin: usize) -> usize {
        self.vms[&self.places[plugin].vm].memory_bytes()
    }

    /// Contexts of streams that a plugin's VM has not been told to delete.
    pub fn contexts(&self, plugin: usize) -> usize {
        self.vms[&self.places[plugin].vm].streams().len()
    }

    /// How many connections to Redis are open, or about to be.
    pub fn connections(&self) -> usize {
        self.services.clients.borrow().connections()
    }

    /// How many commands wait for Redis' replies, AUTH and SELECT included, or for these to be delivered.
    pub fn pending(&self) -> usize {
        self.services.clients.borrow().pending()
    }

    /// Gives a plugin another configuration: a new root context, and an end of the old one once no stream is left that
    /// uses it.
    ///
    /// # Errors
    ///
    /// If it is refused; then the old one stays.
    pub fn reconfigure(&mut self, plugin: usize, config: impl AsRef<[u8]>) -> Result<(), StartError> {
        let changed = Plugin { config: config.as_ref().to_vec(), ..self.gateway.plugins[plugin].clone() };
        let place = self.install(&changed).map_err(|reason| self.start_error(&changed, reason))?;
        self.gateway.plugins[plugin] = changed;
        let old = std::mem::replace(&mut self.places[plugin], place);
        self.leaving.push(old);
        self.settle();
        Ok(())
    }

    /// Delivers a reply to a plugin's root context that no call stands behind, as no gateway does.
    pub fn forge_redis_reply(&mut self, plugin: usize, token: u32, status: u32, reply: &[u8]) {
        let Place { vm, root } = self.places[plugin];
        self.vm(vm).on_redis_reply(root, token, status, reply.to_vec());
        self.after_call(vm);
        self.settle();
    }

    /// Ends the roots that no stream uses any more.
    fn retire_unused(&mut self) {
        let uses = |place: &Place, filter: &Filter| (filter.vm, filter.root) == (place.vm, place.root);
        let is_used = |place: &Place| {
            self.streams.values().any(|stream| {
                let stream = stream.borrow();
                !stream.finished && stream.filters.iter().any(|filter| uses(place, filter))
            })
        };
        let (used, unused): (Vec<_>, Vec<_>) = self.leaving.iter().partition(|place| is_used(place));
        self.leaving = used;
        unused.into_iter().for_each(|place| self.retire(place));
    }

    fn retire(&mut self, place: Place) {
        let Place { vm, root } = place;
        if self.vm(vm).on_done(root) {
            self.forget_root(place);
        } else {
            self.vm(vm).state_mut().root_mut(root).leaving = true;
        }
        self.after_call(vm);
    }

    /// Its outstanding calls are cancelled: nobody is called back.
    fn forget_root(&mut self, place: Place) {
        self.services.clients.borrow_mut().cancel(|owner| owner.vm == place.vm && owner.root == place.root);
        self.due.retain(|due| !due.is_for(place));
        self.vm(place.vm).delete(place.root);
    }

    /// Replaces VMs that have failed, before the next stream meets them.
    fn recover(&mut self) {
        let failed = |worker: &Worker, index: usize| worker.vms[&worker.places[index].vm].failed().is_some();
        let failed: Vec<usize> = (0..self.places.len()).filter(|index| failed(self, *index)).collect();
        if failed.is_empty() {
            return;
        }
        for index in failed {
            let plugin = self.gateway.plugins[index].clone();
            // While it does not start, streams meet the one that has failed.
            if let Ok(place) = self.install(&plugin) {
                self.places[index] = place;
            }
        }
        let lives: Vec<u64> = self.places.iter().map(|place| place.vm).collect();
        let streams: Vec<StreamRef> = self.streams.values().map(Rc::clone).collect();
        let is_used =
            |vm: u64| streams.iter().any(|stream| stream.borrow().filters.iter().any(|filter| filter.vm == vm));
        let is_gone = |vm: u64| !lives.contains(&vm) && !is_used(vm);
        self.services.clients.borrow_mut().cancel(|owner| is_gone(owner.vm));
        self.vms.retain(|serial, _| !is_gone(*serial));
    }

    fn vm(&mut self, serial: u64) -> &mut Vm {
        self.vms.get_mut(&serial).unwrap_or_else(|| panic!("VM {serial} is gone"))
    }

    fn stream(&self, id: StreamId) -> StreamRef {
        Rc::clone(self.streams.get(&id).unwrap_or_else(|| panic!("stream {id} was closed")))
    }

    fn fails_open(&self, filter: usize) -> bool {
        self.gateway.plugins[filter].fail == FailStrategy::Open
    }
}
