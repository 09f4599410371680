# Sessions of Rack in Redis, by redis-rack: as JSON, and as Ruby's own Marshal.
require "json"
require "rack"
require "rack/session/redis"

def application(name, serializer)
  options = { host: "127.0.0.1", port: ENV["SESSIONS_REDIS_PORT"].to_i, namespace: "rack:session" }
  options[:serializer] = serializer if serializer
  app = lambda do |env|
    session = env["rack.session"]
    request = Rack::Request.new(env)
    JSON.parse(request.body.read).each { |key, value| session[key] = value } if request.post?
    [200, {}, [JSON.generate("id" => session.id&.private_id, "said" => session.to_hash)]]
  end
  Rack::MockRequest.new(Rack::Session::Redis.new(app, redis_server: options, key: name, expire_after: 3600))
end

made_by = "rack #{Rack.release}, redis-rack #{Gem.loaded_specs["redis-rack"]&.version || Redis::Rack::VERSION}"
contents = JSON.parse($stdin.read)
[["JSON", JSON], ["Marshal", nil]].each do |form, serializer|
  app = application("_x_session", serializer)
  contents.each do |name, content|
    next if form == "Marshal" && name != "plain" || content.empty?
    response = app.post("/", input: JSON.generate(content))
    cookie = response["Set-Cookie"].split(";").first
    read = JSON.parse(app.get("/", "HTTP_COOKIE" => cookie).body)
    line = { case: "#{name}, #{form}", format: "rack", name: "_x_session", prefix: "rack:session:", secrets: [],
             made_by: made_by, id: read["id"], cookie: cookie }
    puts JSON.generate(line.merge(form == "JSON" ? { said: read["said"] } : { miss: "foreign_type" }))
  end
end
