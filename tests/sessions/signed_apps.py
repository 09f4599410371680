"""Sessions that stand in a signed cookie: of Flask, of Starlette and of Django."""

import importlib.metadata
import json
import sys
import time
import unittest.mock

import django
import django.conf
import django.http
import django.test
import django.urls
import flask
import starlette.applications
import starlette.middleware
import starlette.middleware.sessions
import starlette.responses
import starlette.routing
import starlette.testclient

# What is longer is not read here.
COOKIE_MAX = 4096
DAY = 24 * 60 * 60


class Flask:
    format = "signed-flask"
    made_by = f"Flask {importlib.metadata.version('flask')}, itsdangerous {importlib.metadata.version('itsdangerous')}"
    max_age_s = 31 * DAY

    def __init__(self, secrets):
        self.app = flask.Flask(__name__)
        self.app.secret_key = secrets[0]
        self.app.config["SECRET_KEY_FALLBACKS"] = secrets[1:]
        self.app.add_url_rule("/", "login", self.login, methods=["POST"])
        self.app.add_url_rule("/", "said", lambda: flask.jsonify(dict(flask.session)))

    @staticmethod
    def login():
        flask.session.update(flask.request.get_json())
        return ""

    def cookie(self, content):
        client = self.app.test_client()
        client.post("/", json=content)
        cookie = client.get_cookie("session")
        return None if cookie is None else cookie.value

    def said(self, cookie):
        client = self.app.test_client()
        client.set_cookie("session", cookie)
        return client.get("/").get_json()


class Starlette:
    format = "signed-starlette"
    made_by = f"Starlette {importlib.metadata.version('starlette')}"
    max_age_s = 14 * DAY

    def __init__(self, secrets):
        async def login(request):
            request.session.update(await request.json())
            return starlette.responses.Response()

        async def said(request):
            return starlette.responses.JSONResponse(dict(request.session))

        routes = [
            starlette.routing.Route("/", login, methods=["POST"]),
            starlette.routing.Route("/", said, methods=["GET"]),
        ]
        sessions = starlette.middleware.sessions.SessionMiddleware
        middleware = [starlette.middleware.Middleware(sessions, secret_key=secrets[0])]
        self.app = starlette.applications.Starlette(routes=routes, middleware=middleware)

    def cookie(self, content):
        client = starlette.testclient.TestClient(self.app)
        client.post("/", json=content)
        return client.cookies.get("session")

    def said(self, cookie):
        client = starlette.testclient.TestClient(self.app)
        return client.get("/", headers={"cookie": "session=" + cookie}).json()


def of_django(request):
    if request.method == "POST":
        request.session.update(json.loads(request.body))
    return django.http.JsonResponse(dict(request.session.items()))


urlpatterns = [django.urls.path("", of_django)]


class Django:
    format = "signed-django"
    made_by = f"Django {django.__version__}"
    max_age_s = 14 * DAY

    def __init__(self, secrets):
        self.secrets = secrets
        if not django.conf.settings.configured:
            django.conf.settings.configure(
                ALLOWED_HOSTS=["*"],
                MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
                ROOT_URLCONF=__name__,
                SECRET_KEY="none of those below",
                SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
            )
            django.setup()

    def settings(self):
        return django.test.override_settings(SECRET_KEY=self.secrets[0], SECRET_KEY_FALLBACKS=self.secrets[1:])

    def cookie(self, content):
        with self.settings():
            client = django.test.Client()
            client.post("/", json.dumps(content), content_type="application/json")
            cookie = client.cookies.get("sessionid")
            return None if cookie is None else cookie.value

    def said(self, cookie):
        with self.settings():
            client = django.test.Client(headers={"cookie": "sessionid=" + cookie})
            return client.get("/").json()


def tell(app, cookie, secrets, **fields):
    name = "sessionid" if app is Django else "session"
    fields = {"format": app.format, "name": name, "made_by": app.made_by, "secrets": secrets, **fields}
    print(json.dumps({**fields, "cookie": f"{name}={cookie}", "max_age_s": app.max_age_s}))


def all_contents(contents):
    """Whole, and each member alone: what is long, Flask and Django compress."""
    for name, content in contents.items():
        yield name, content
        if len(content) > 3:
            for member, value in content.items():
                yield f"{name}, {member}", {member: value}


contents = json.load(sys.stdin)
for application in [Flask, Starlette, Django]:
    old, rotated, other = application(["old \u00fc"]), application(["new", "old \u00fc"]), application(["another"])
    for name, content in all_contents(contents):
        cookie = old.cookie(content)
        if cookie is None:
            continue
        if len(cookie) > COOKIE_MAX:
            found = {"miss": "too_long"}
        else:
            found = {"said": old.said(cookie)}
        tell(application, cookie, ["old \u00fc"], case=name, **found)
    cookie = old.cookie(contents["plain"])
    tell(application, cookie, ["new", "old \u00fc"], case="old secret", said=old.said(cookie))
    if application is not Starlette:
        assert rotated.said(cookie) == old.said(cookie) != {}
    cookie = rotated.cookie(contents["plain"])
    tell(application, cookie, ["new", "old \u00fc"], case="new secret", said=rotated.said(cookie))
    assert other.said(cookie) == {}
    tell(application, cookie, ["another"], case="another secret", miss="wrong_signature")
    for name, seconds in [("almost expired", -60), ("expired", 60)]:
        moment = time.time() + application.max_age_s + seconds
        with unittest.mock.patch("time.time", lambda: moment):
            said = rotated.said(cookie)
        assert (said == {}) == (seconds > 0), (application, said)
        found = {"said": said} if said else {"miss": "expired"}
        tell(application, cookie, ["new"], case=name, now_ms=int(moment * 1000), **found)
