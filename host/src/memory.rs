//! The allocator of the process, which gives memory back to the system when a flood is over.

use std::time::Duration;

use mimalloc::MiMalloc;
use tokio::runtime::Handle;

/// The system's own allocator keeps what lies between pieces in use, for ever: after a flood that is most of what the flood took.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often a thread looks whether it may give memory back.
const PAUSE: Duration = Duration::from_secs(1);

/// As many tasks as this thread runs on a quiet day; fewer are no flood.
const TASKS_FEW: usize = 64;

/// Gives back what the thread's tasks of before held, whenever most of them have ended. For ever; to be run by each thread with an event
/// loop of its own, since each has a heap of its own.
pub(crate) async fn give_back() {
    let runtime = Handle::current().metrics();
    let mut most = 0;
    loop {
        tokio::time::sleep(PAUSE).await;
        let tasks = runtime.num_alive_tasks();
        most = most.max(tasks);
        let is_over = most > TASKS_FEW && tasks < most / 2;
        if is_over {
            most = tasks;
        }
        collect(is_over);
    }
}

/// Frees pages that hold nothing; with `all`, hands them to the system at once.
fn collect(all: bool) {
    // SAFETY: The function may be called at any time from any thread; it looks only at what is free.
    unsafe { libmimalloc_sys::mi_collect(all) }
}
