use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// A stream that does what it is told for each write: take so many bytes, or fail.
struct Told {
    answers: Receiver<io::Result<usize>>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Who tells no more leaves a stream that stands still.
        let Ok(answer) = self.answers.recv() else {
            loop {
                thread::park()
            }
        };
        let count = answer?.min(bytes.len());
        self.taken.lock().expect("no panic").extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Scene {
    queue: Arc<Queue>,
    answers: Sender<io::Result<usize>>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Scene {
    fn new() -> Self {
        let (answers, told) = channel();
        let taken = Arc::default();
        let queue = Queue::start_with("test", Told { answers: told, taken: Arc::clone(&taken) });
        Scene { queue, answers, taken }
    }

    fn tell(&self, answer: io::Result<usize>) {
        self.answers.send(answer).expect("the stream is there");
    }

    fn text(&self) -> String {
        String::from_utf8(self.taken.lock().expect("no panic").clone()).expect("UTF-8")
    }

    fn flush(&self) {
        self.queue.flush(Instant::now() + Duration::from_secs(30));
    }
}

fn failure(kind: ErrorKind) -> io::Result<usize> {
    Err(io::Error::from(kind))
}

#[test]
fn lines_are_written_in_order_whatever_the_stream_takes_at_once() {
    let scene = Scene::new();
    scene.queue.push(b"one\n");
    for answer in [Ok(1), failure(ErrorKind::Interrupted), failure(ErrorKind::WouldBlock), Ok(100)] {
        scene.tell(answer);
    }
    scene.flush();
    scene.queue.push(b"two\nthree\n");
    scene.tell(Ok(100));
    scene.flush();
    assert_eq!((scene.text().as_str(), scene.queue.dropped()), ("one\ntwo\nthree\n", 0));
}

#[test]
fn a_stream_that_fails_costs_its_lines_and_no_later_ones() {
    let scene = Scene::new();
    for kind in [ErrorKind::BrokenPipe, ErrorKind::StorageFull] {
        scene.queue.push(b"lost\n");
        scene.tell(failure(kind));
        scene.flush();
    }
    scene.queue.push(b"cut here\n");
    scene.tell(Ok(3));
    scene.tell(failure(ErrorKind::StorageFull));
    scene.flush();
    scene.queue.push(b"whole\n");
    scene.tell(Ok(100));
    scene.tell(Ok(100));
    scene.flush();
    assert_eq!((scene.text().as_str(), scene.queue.dropped()), ("cut\nwhole\n", 3));
}

#[test]
fn a_stream_that_stands_still_makes_nobody_wait_and_holds_a_bounded_number_of_bytes() {
    let scene = Scene::new();
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    let lines = 4 * u64::try_from(BYTES_MAX / 1024).expect("small");
    (0..lines).for_each(|_| scene.queue.push(&line));
    // What waits, and what was taken to be written before.
    assert!(scene.queue.dropped() >= lines / 2, "{}", scene.queue.dropped());
    assert!(scene.queue.lock().bytes.len() <= BYTES_MAX);
    // Nor does the end of the process.
    scene.queue.flush(Instant::now() + Duration::from_millis(10));
}

#[test]
fn the_number_of_waiting_lines_is_bounded_too() {
    let scene = Scene::new();
    (0..4 * LINES_MAX).for_each(|_| scene.queue.push(b"\n"));
    assert!(scene.queue.dropped() >= 2 * LINES_MAX, "{}", scene.queue.dropped());
}

#[test]
fn pieces_end_with_lines() {
    let long = [b"x".repeat(2 * PIECE), b"\nshort\n".to_vec()].concat();
    assert_eq!(piece_length(&long), 2 * PIECE + 1);
    assert_eq!(piece_length(b"a\nb\nc"), 4);
    assert_eq!(piece_length(b"no end"), 6);
}
