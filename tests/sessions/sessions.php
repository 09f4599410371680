<?php
// Sessions of PHP in phpredis, in each form that PHP writes them in.

error_reporting(E_ALL & ~E_DEPRECATED);

class Account
{
    public $id = 'object-7';
    protected $hidden = 'protected';
    private $secret = 'private';
}

final class Parcel implements Serializable
{
    public function serialize() { return 'x";}|i:7;'; }
    public function unserialize($text) {}
}

enum Rank: string { case High = 'high'; }

ini_set('session.save_handler', 'redis');
ini_set('session.save_path', 'tcp://127.0.0.1:' . getenv('SESSIONS_REDIS_PORT'));
ini_set('session.use_strict_mode', '0');
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');

function made(string $handler, array $content): array
{
    ini_set('session.serialize_handler', $handler);
    session_id(session_create_id());
    session_start();
    $_SESSION = $content;
    session_write_close();
    $_SESSION = [];
    session_start();
    $said = $_SESSION;
    session_abort();
    return [session_id(), $said];
}

$lines = [];
function tell(string $case, string $id, array $fields): void
{
    global $lines;
    $lines[] = json_encode([
        'case' => $case, 'format' => 'php', 'name' => session_name(), 'prefix' => 'PHPREDIS_SESSION:', 'secrets' => [],
        'made_by' => 'PHP ' . PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . '.' . PHP_RELEASE_VERSION . ', phpredis ' . phpversion('redis'),
        'id' => $id, 'cookie' => session_name() . '=' . $id,
    ] + $fields, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION | JSON_PARTIAL_OUTPUT_ON_ERROR);
}

$contents = json_decode(file_get_contents('php://stdin'), true);
foreach (['php', 'php_serialize'] as $handler) {
    foreach ($contents as $name => $content) {
        [$id, $said] = made($handler, $content);
        tell("$name, $handler", $id, ['said' => (object) $said]);
    }
    $shared = 'shared';
    $noise = ['first' => new Account(), 'rank' => Rank::High, 'parcel' => new Parcel(), 'endless' => INF, 'wrong' => NAN,
        'one' => &$shared, 'same' => &$shared, 'kept' => 'yes', 'deep' => ['again' => new Account(), 3 => 'three', -4 => 'minus']];
    [$id, $said] = made($handler, $noise);
    tell("other types, $handler", $id, ['said' => ['first' => ['id' => 'object-7'], 'one' => 'shared', 'kept' => $said['kept'],
        'deep' => ['again' => ['id' => 'object-7'], 3 => 'three', -4 => 'minus']]]);
    [$id, $said] = made($handler, ['small' => PHP_INT_MIN, 'great' => PHP_INT_MAX, 'whole' => 7.0]);
    tell("extremes, $handler", $id, ['said' => $said]);
}
ini_set('session.sid_bits_per_character', '6');
for ($tries = 0; !str_contains($id, ','); $tries++) {
    [$id, $said] = made('php', $contents['plain']);
}
tell('a comma in the id', $id, ['said' => $said]);
foreach (['php_binary', 'igbinary'] as $handler) {
    [$id] = made($handler, $contents['plain']);
    tell("plain, $handler", $id, ['miss' => 'foreign_type']);
}
echo implode("\n", $lines), "\n";
