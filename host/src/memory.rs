//! The allocator of the process, which gives memory back to the system when a flood is over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mimalloc::MiMalloc;
use tokio::runtime::Handle;

/// The system's own allocator keeps what lies between pieces in use, for ever: after a flood that is most of what the
/// flood took.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often a thread looks whether it may give memory back.
const PAUSE: Duration = Duration::from_secs(1);

/// As many tasks as this thread runs on a quiet day; fewer are no flood.
const TASKS_FEW: usize = 64;

/// For so many looks after a flood memory is given back at once: what held it ends little by little, and in other
/// threads too.
const LOOKS_AFTER_FLOOD: usize = 10;

/// Floods that ended, in any thread.
static FLOODS: AtomicUsize = AtomicUsize::new(0);

/// Gives back what the thread's tasks of before held, whenever most of them have ended. For ever; to be run by each
/// thread with an event loop of its own, since each has a heap of its own.
pub(crate) async fn give_back() {
    let runtime = Handle::current().metrics();
    let (mut most, mut floods, mut looks_left) = (0, 0, 0_usize);
    loop {
        tokio::time::sleep(PAUSE).await;
        let tasks = runtime.num_alive_tasks();
        most = most.max(tasks);
        if most > TASKS_FEW && tasks < most / 2 {
            most = tasks;
            FLOODS.fetch_add(1, Ordering::Relaxed);
        }
        let ended = FLOODS.load(Ordering::Relaxed);
        looks_left = if ended == floods { looks_left.saturating_sub(1) } else { LOOKS_AFTER_FLOOD };
        floods = ended;
        collect(looks_left > 0);
    }
}

/// Frees pages that hold nothing; with `all`, hands them to the system at once.
#[expect(unsafe_code, reason = "a function of C")]
fn collect(all: bool) {
    // SAFETY: The function may be called at any time from any thread; it looks only at what is free.
    unsafe { libmimalloc_sys::mi_collect(all) }
}
