// Values of sessions of Spring Session: as Java itself writes them, and as Jackson does with the settings of Spring's
// GenericJackson2JsonRedisSerializer. The names of the hash's fields are those of Spring's RedisSessionMapper.
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.jsontype.impl.LaissezFaireSubTypeValidator;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

public class Spring {
    static final ObjectMapper PLAIN = new ObjectMapper();
    static final ObjectMapper TYPED = new ObjectMapper().activateDefaultTyping(
        LaissezFaireSubTypeValidator.instance, ObjectMapper.DefaultTyping.NON_FINAL, JsonTypeInfo.As.PROPERTY);

    // Too long for a header, and half a character; nothing is told of other types than texts and whole numbers either.
    static final List<String> NOTHING = List.of("longest", "half");

    interface Serializer {
        byte[] bytes(Object value) throws Exception;
    }

    static byte[] java(Object value) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream stream = new ObjectOutputStream(bytes)) {
            stream.writeObject(value);
        }
        return bytes.toByteArray();
    }

    static void tell(String form, Serializer serializer, String title, Map<String, Object> content, long ageMs, int interval)
        throws Exception {
        String id = UUID.randomUUID().toString();
        long now = System.currentTimeMillis();
        Map<String, String> fields = new LinkedHashMap<>();
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("creationTime", now - ageMs);
        all.put("lastAccessedTime", now - ageMs);
        all.put("maxInactiveInterval", interval);
        content.forEach((key, value) -> all.put("sessionAttr:" + key, value));
        List<String> nothing = new ArrayList<>();
        Map<String, Object> said = new LinkedHashMap<>();
        for (Map.Entry<String, Object> field : all.entrySet()) {
            byte[] bytes = serializer.bytes(field.getValue());
            fields.put(field.getKey(), Base64.getEncoder().encodeToString(bytes));
            if (field.getKey().startsWith("sessionAttr:")) {
                Object read = form.equals("JSON") ? PLAIN.readTree(bytes)
                    : new ObjectInputStream(new ByteArrayInputStream(bytes)).readObject();
                String name = field.getKey().substring("sessionAttr:".length());
                boolean isSaid = read instanceof JsonNode || read instanceof Long || read instanceof Integer
                    || read instanceof String text && !NOTHING.contains(name);
                if (isSaid) {
                    said.put(name, read);
                } else {
                    nothing.add(name);
                }
            }
        }
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("case", title + ", " + form);
        line.put("format", "spring");
        line.put("name", "SESSION");
        line.put("prefix", "spring:session:sessions:");
        line.put("secrets", List.of());
        line.put("made_by", "Java " + Runtime.version().feature() + (form.equals("JSON") ? ", Jackson " + TYPED.version() : ""));
        line.put("id", id);
        line.put("cookie", "SESSION=" + Base64.getEncoder().encodeToString(id.getBytes()));
        line.put("now_ms", now);
        line.put("hset", fields);
        if (interval >= 0 && ageMs > interval * 1000L) {
            line.put("miss", "expired");
        } else {
            line.put("said", said);
            line.put("nothing", nothing);
        }
        System.out.println(PLAIN.writeValueAsString(line));
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] arguments) throws Exception {
        Map<String, Map<String, Object>> contents = PLAIN.readValue(System.in, LinkedHashMap.class);
        Map<String, Object> extremes = new LinkedHashMap<>();
        extremes.put("small", Long.MIN_VALUE);
        extremes.put("great", Long.MAX_VALUE);
        extremes.put("least", Integer.MIN_VALUE);
        extremes.put("most", Integer.MAX_VALUE);
        extremes.put("longest", "x".repeat(70_000));
        extremes.put("half", "\ud83d\ude00\ud800");
        extremes.put("other", new ArrayList<>(List.of(Map.of("id", 7L))));
        extremes.put("after", "end");
        for (String form : List.of("Java", "JSON")) {
            Serializer serializer = form.equals("Java") ? Spring::java : TYPED::writeValueAsBytes;
            for (Map.Entry<String, Map<String, Object>> each : contents.entrySet()) {
                tell(form, serializer, each.getKey(), each.getValue(), 0, 1800);
            }
            if (form.equals("JSON")) {
                extremes.remove("half");
                extremes.remove("longest");
            }
            tell(form, serializer, "extremes", extremes, 0, 1800);
            tell(form, serializer, "almost expired", contents.get("plain"), 1_790_000, 1800);
            tell(form, serializer, "expired", contents.get("plain"), 1_801_000, 1800);
            tell(form, serializer, "never expires", contents.get("plain"), 1_801_000, -1);
        }
    }
}
