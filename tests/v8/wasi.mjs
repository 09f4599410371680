// WASI as the gateway gives it to a plugin: clocks, randomness, output to the log, no arguments, no environment, no files.

import { randomFillSync } from "node:crypto";

const [BAD_FD, INVALID, NO_ENTRY, NOT_IMPLEMENTED, NOT_SUPPORTED] = [8, 28, 44, 52, 58];
const MAX_RANDOM = 65_536;

// The imports of module `wasi_snapshot_preview1`.
export function wasi(plugin) {
  const { memory } = plugin;
  const zero = (...outs) => {
    outs.forEach((out) => memory.writeU32(out, 0));
    return 0;
  };
  return {
    args_sizes_get: zero,
    args_get: () => 0,
    environ_sizes_get: zero,
    environ_get: () => 0,
    clock_time_get(id, _precision, out) {
      if (id > 1) return NOT_SUPPORTED;
      memory.writeU64(out, id === 0 ? BigInt(Date.now()) * 1_000_000n : process.hrtime.bigint());
      return 0;
    },
    random_get(at, size) {
      if (size >>> 0 > MAX_RANDOM) return INVALID;
      randomFillSync(memory.slice(at, size));
      return 0;
    },
    fd_write(fd, vectors, count, written) {
      if (fd !== 1 && fd !== 2) return BAD_FD;
      let text = "";
      for (let index = 0; index < count; index += 1) {
        const at = vectors + 8 * index;
        text += memory.text(memory.readU32(at), memory.readU32(at + 4));
      }
      memory.writeU32(written, text.length);
      plugin.log(fd === 1 ? 2 : 4, text.replace(/\n$/, ""));
      return 0;
    },
    // Nobody sleeps in a gateway's worker.
    poll_oneoff: (_subscriptions, _events, _count, out) => zero(out),
    sched_yield: () => 0,
    // It comes back; compilers put a trap behind it.
    proc_exit: (code) => plugin.log(4, `the guest exits with ${code}`),
    fd_close: () => 0,
    fd_seek: () => 0,
    fd_read: () => NOT_IMPLEMENTED,
    fd_fdstat_set_flags: () => NOT_IMPLEMENTED,
    fd_prestat_dir_name: () => NOT_IMPLEMENTED,
    fd_prestat_get: () => BAD_FD,
    fd_fdstat_get(fd, out) {
      if (fd !== 1 && fd !== 2) return BAD_FD;
      [0n, 64n, 0n].forEach((number, index) => memory.writeU64(out + 8 * index, number));
      return 0;
    },
    path_open: () => NO_ENTRY,
    path_filestat_get: () => NOT_SUPPORTED,
  };
}
