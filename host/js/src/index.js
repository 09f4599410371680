/**
 * Slidegate's filter in JavaScript: the component that the gateway and Higress run, and Redis by the client that the
 * application has. What it counts and refuses is the component's; here is what carries requests to it.
 */

export { applyEdits } from "./edits.js";
export { ConfigurationError, Filter } from "./filter.js";
export { CallFailure, ErrorReply } from "./redis.js";
