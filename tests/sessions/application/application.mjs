// An application as many are: who logs in has a session, kept by express-session in Redis. It knows nothing of the
// gateway before it, but shows what that tells.
import { createRequire } from "node:module";

const require = createRequire(process.env.SESSIONS_LIBRARIES + "/node/");
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");

const client = createClient({ url: process.env.SESSIONS_REDIS });
await client.connect();

const application = express();
application.use(express.urlencoded({ extended: false }));
application.use(session({
  secret: "keyboard cat",
  resave: false,
  saveUninitialized: false,
  store: new RedisStore({ client }),
  cookie: { httpOnly: true, sameSite: "lax", maxAge: 3_600_000 },
}));

const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const page = (body) => `<!doctype html><meta charset="utf-8"><title>Shop</title><link rel="stylesheet" href="/assets/shop.css">${body}`;

application.get("/assets/shop.css", (_, response) => response.type("css").send(
  "body{font:16px/1.5 'DejaVu Sans',sans-serif;max-width:32rem;margin:3rem auto;color:#222}h1{font-size:1.4rem}" +
  "input,button{font:inherit;padding:.4rem .7rem}button{background:#0a6;color:#fff;border:0;border-radius:4px}" +
  "code{background:#eee;padding:.1rem .3rem}"));

application.get("/login", (_, response) => response.send(page(
  '<h1>Log in</h1><form method="post"><input name="name" placeholder="Name" autofocus> <button>Log in</button></form>')));

application.post("/login", (request, response, next) => {
  // A new id, so that nobody knows it from before.
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = { id: request.body.name };
    request.session.save(() => response.redirect("/"));
  });
});

application.post("/logout", (request, response) => {
  request.session.destroy(() => response.clearCookie("connect.sid", { httpOnly: true, sameSite: "lax" }).redirect("/login"));
});

application.get("/", (request, response) => {
  const told = request.headers["x-user-id"] ?? "nobody";
  const own = request.session.user?.id ?? "nobody";
  response.send(page(
    `<h1>Hello, <span id="own">${escaped(own)}</span></h1><p>The gateway says <code>x-user-id: <span id="told">${escaped(told)}</span></code></p>` +
    '<form method="post" action="/logout"><button>Log out</button></form>'));
});

const socket = application.listen(0, "127.0.0.1", () => console.log(socket.address().port));
