"""Sessions of Flask-Session in Redis, as MessagePack and as JSON, with and without a signature."""

import datetime
import importlib.metadata
import json
import os
import sys
import uuid
import warnings

import flask
import flask_session
import redis

warnings.simplefilter("ignore")
SECRET = "s\u00e9cret"
VERSION = "Flask-Session " + importlib.metadata.version("flask-session")
NOISE = {"when": datetime.datetime.now(datetime.UTC), "raw": b"\x00\xff", "pair": (1, 2), "which": uuid.uuid4()}


def application(form, is_signed, secret=SECRET):
    app = flask.Flask(__name__)
    app.secret_key = secret
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_REDIS=redis.Redis(port=int(os.environ["SESSIONS_REDIS_PORT"])),
        SESSION_SERIALIZATION_FORMAT=form,
        SESSION_USE_SIGNER=is_signed,
    )
    flask_session.Session(app)

    @app.post("/")
    def login():
        flask.session.update(flask.request.get_json())
        if flask.request.args:
            flask.session.update(NOISE)
            flask.session["last"] = "after"
        return flask.session.sid

    @app.get("/")
    def said():
        return flask.jsonify({name: flask.session[name] for name in flask.session if name not in NOISE})

    return app


def login(app, content, path="/"):
    client = app.test_client()
    identifier = client.post(path, json=content).text
    return identifier, client.get_cookie("session").value


def said(app, cookie):
    client = app.test_client()
    client.set_cookie("session", cookie)
    return client.get("/").get_json()


def tell(**fields):
    fields = {"format": "flask-session", "name": "session", "prefix": "session:", "made_by": VERSION, **fields}
    print(json.dumps({**fields, "cookie": "session=" + fields["cookie"]}))


contents = json.load(sys.stdin)
for form in ["msgpack", "json"]:
    for is_signed in [False, True]:
        app = application(form, is_signed)
        secrets = [SECRET] if is_signed else []
        manner = f"{form}, {'signed' if is_signed else 'plain'}"
        # One without content is not kept.
        for name, content in filter(lambda each: each[1], contents.items()):
            identifier, cookie = login(app, content)
            tell(case=f"{name}, {manner}", secrets=secrets, id=identifier, cookie=cookie, said=said(app, cookie))
    identifier, cookie = login(app, contents["plain"], "/?noise=1")
    tell(case=f"other types, {form}", secrets=[SECRET], id=identifier, cookie=cookie, said=said(app, cookie))
    tell(case=f"old secret, {form}", secrets=["new", SECRET], id=identifier, cookie=cookie, said=said(app, cookie))
    other = application(form, True, "another")
    assert "name" not in said(other, cookie)
    tell(case=f"another secret, {form}", secrets=["another"], id=identifier, cookie=cookie, miss="wrong_signature")
