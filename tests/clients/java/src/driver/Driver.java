package driver;

import com.alibaba.fastjson.JSON;
import com.alibaba.fastjson.JSONObject;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;

/**
 * The Java client under remote control: one JSON request a line on standard input, answers and observations one JSON
 * line each on standard output. tests/clients/README.md lists the verbs; the conformance suite is the only caller.
 * Requests run on threads of their own, so many scenarios share one process.
 */
public final class Driver {
    /** One verb: what it does with a request, and what it answers (null: nothing but success). */
    interface Verb {
        Object run(JSONObject request) throws Exception;
    }

    private static final PrintStream OUT =
        new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
    private static final Map<String, Verb> VERBS = new HashMap<>();

    private Driver() {
    }

    public static void main(String[] arguments) throws Exception {
        System.setOut(System.err); // Whatever the client prints must not mix with ours.
        Producers.addTo(VERBS);
        Consumers.addTo(VERBS);
        Pulls.addTo(VERBS);
        Queries.addTo(VERBS);
        VERBS.put("stop", Members::stop);
        ExecutorService threads = Executors.newCachedThreadPool();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JSONObject request = JSON.parseObject(line);
            threads.execute(() -> answer(request));
        }
        System.exit(0); // The suite has gone: so do the clients' own threads.
    }

    private static void answer(JSONObject request) {
        JSONObject reply = new JSONObject();
        reply.put("id", request.getLong("id"));
        try {
            Verb verb = VERBS.get(request.getString("verb"));
            if (verb == null) {
                throw new IllegalArgumentException("this client has no verb " + request.getString("verb"));
            }
            Object answer = verb.run(request);
            reply.put("ok", answer == null ? new JSONObject() : answer);
        } catch (Throwable problem) {
            reply.put("error", error(problem));
        }
        print(reply);
    }

    static void print(JSONObject line) {
        String text = line.toJSONString();
        synchronized (OUT) {
            OUT.println(text);
            OUT.flush();
        }
    }

    static JSONObject error(Throwable problem) {
        JSONObject error = new JSONObject();
        error.put("kind", problem.getClass().getSimpleName());
        error.put("message", String.valueOf(problem.getMessage()));
        if (problem instanceof MQClientException) {
            error.put("code", ((MQClientException) problem).getResponseCode());
        } else if (problem instanceof MQBrokerException) {
            error.put("code", ((MQBrokerException) problem).getResponseCode());
        }
        return error;
    }
}
