// The least that a proxy-wasm module can be, assembled here byte by byte: it asks the gateway for one request header, drops it and
// lets the request pass. No compiler and no library has a part in it, so what it takes is what V8 and the measuring take.

const [I32, FUNCTION_TYPE] = [0x7f, 0x60];
const [TYPE, IMPORT, FUNCTION, MEMORY, EXPORT, CODE, DATA] = [1, 2, 3, 5, 7, 10, 11];
const [GET, CONST, CALL, DROP, END] = [0x20, 0x41, 0x10, 0x1a, 0x0b];
const [VALUE_AT, NAME_AT, BLOCK_AT] = [16, 32, 64];
const NAME = "x-mse-consumer";

// LEB128: counts without a sign, constants with one (here never negative and below 8192).
const unsigned = (number) => (number < 128 ? [number] : [(number & 127) | 128, ...unsigned(number >>> 7)]);
const constant = (number) => [CONST, ...(number < 64 ? [number] : [(number & 127) | 128, number >>> 7])];
const vector = (items) => [...unsigned(items.length), ...items.flat()];
const text = (string) => vector([...Buffer.from(string)]);
const section = (id, items) => [id, ...unsigned(vector(items).length), ...vector(items)];
const type = (parameters, results) => [FUNCTION_TYPE, ...vector(Array(parameters).fill(I32)), ...vector(Array(results).fill(I32))];
const body = (...code) => vector([0, ...code.flat(), END]);

// By the number of parameters and results.
const TYPES = [[5, 1], [0, 0], [1, 1], [2, 0], [2, 1], [3, 1], [1, 0]];
const typeOf = (parameters, results) => TYPES.findIndex((each) => each[0] === parameters && each[1] === results);

const askForHeader = [constant(0), constant(NAME_AT), constant(NAME.length), constant(VALUE_AT), constant(VALUE_AT + 4), [CALL, 0], [DROP]];

// Name, parameters, results, code.
const FUNCTIONS = [
  ["proxy_abi_version_0_2_1", 0, 0, body()],
  ["_initialize", 0, 0, body()],
  // Nothing is kept, so one block does for all.
  ["proxy_on_memory_allocate", 1, 1, body(constant(BLOCK_AT))],
  ["proxy_on_context_create", 2, 0, body()],
  ["proxy_on_vm_start", 2, 1, body(constant(1))],
  ["proxy_on_configure", 2, 1, body(constant(1))],
  ["proxy_on_request_headers", 3, 1, body(...askForHeader, constant(0))],
  ["proxy_on_response_headers", 3, 1, body(constant(0))],
  ["proxy_on_log", 1, 0, body()],
  ["proxy_on_done", 1, 1, body([GET, 0])],
  ["proxy_on_delete", 1, 0, body()],
];

export function minimal() {
  const exported = FUNCTIONS.map(([name], index) => [...text(name), 0, index + 1]);
  return Buffer.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(TYPE, TYPES.map(([parameters, results]) => type(parameters, results))),
    ...section(IMPORT, [[...text("env"), ...text("proxy_get_header_map_value"), 0, typeOf(5, 1)]]),
    ...section(FUNCTION, FUNCTIONS.map(([, parameters, results]) => [typeOf(parameters, results)])),
    ...section(MEMORY, [[0, 1]]),
    ...section(EXPORT, [[...text("memory"), 2, 0], ...exported]),
    ...section(CODE, FUNCTIONS.map(([, , , code]) => code)),
    ...section(DATA, [[0, ...constant(NAME_AT), END, ...text(NAME)]]),
  ]);
}
