package driver;

import com.alibaba.fastjson.JSONObject;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Every producer and consumer alive, under the name the suite gave it, with the way to end it. */
final class Members {
    private static final class Member {
        final Object client;
        final Runnable stop;

        Member(Object client, Runnable stop) {
            this.client = client;
            this.stop = stop;
        }
    }

    private static final Map<String, Member> ALL = new ConcurrentHashMap<>();

    private Members() {
    }

    static void add(JSONObject request, Object client, Runnable stop) {
        ALL.put(request.getString("member"), new Member(client, stop));
    }

    static <T> T find(JSONObject request, Class<T> kind) {
        Member member = ALL.get(request.getString("member"));
        if (member == null) {
            throw new IllegalStateException("no member " + request.getString("member"));
        }
        return kind.cast(member.client);
    }

    static Object stop(JSONObject request) {
        Member member = ALL.remove(request.getString("member"));
        if (member != null) {
            member.stop.run();
        }
        return null;
    }
}
