// A server for OpenJDK, whose compilers write machine code while it runs and whose collector stops threads at safepoints (pages
// that it takes away). `runtime_tests.rs` boots it with Debian's `openjdk-17-jre-headless`.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Server {
    private static final ExecutorService WORKERS = Executors.newFixedThreadPool(4);

    // Hot enough that both compilers see it.
    private static long sum(int count, int step) {
        long total = 0;
        for (int index = 0; index < count; index++) total += (index % 7) * step;
        return total;
    }

    private static String compiled() {
        long total = 0;
        for (int turn = 0; turn < 200; turn++) total += sum(10_000, turn & 3);
        return Long.toString(total);
    }

    // Half of what is made is kept for a while, by several threads.
    private static String collected() throws Exception {
        List<Future<Integer>> parts = new ArrayList<>();
        for (int worker = 0; worker < 4; worker++) {
            parts.add(WORKERS.submit(() -> {
                List<byte[]> kept = new ArrayList<>();
                for (int piece = 0; piece < 4000; piece++) {
                    byte[] bytes = new byte[8192];
                    if (piece % 64 == 0) kept.add(bytes);
                }
                return kept.size();
            }));
        }
        int total = 0;
        for (Future<Integer> part : parts) total += part.get();
        return Integer.toString(total);
    }

    // The virtual machine finds these by the faults that they cause.
    private static String caught() {
        int caught = 0;
        for (int turn = 0; turn < 1000; turn++) {
            try {
                Object nothing = turn < 0 ? "" : null;
                caught += nothing.hashCode();
            } catch (NullPointerException error) {
                caught++;
            }
        }
        try {
            caught += deep(0);
        } catch (StackOverflowError error) {
            caught++;
        }
        return Integer.toString(caught);
    }

    private static int deep(int depth) {
        return deep(depth + 1) + 1;
    }

    private static String file() throws IOException {
        Path path = Path.of("/tmp/a");
        Files.writeString(path, "kept here");
        return Files.readString(path);
    }

    private static String answer(String path) throws Exception {
        switch (path) {
            case "/": return "hello from Java";
            case "/compiled": return compiled();
            case "/collected": return collected();
            case "/caught": return caught();
            case "/file": return file();
            default: return "nothing";
        }
    }

    private static void handle(HttpExchange exchange) throws IOException {
        try {
            byte[] body = answer(exchange.getRequestURI().getPath()).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
        } catch (Exception error) {
            error.printStackTrace();
            exchange.sendResponseHeaders(500, -1);
        }
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.createContext("/", Server::handle);
        server.setExecutor(WORKERS);
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("closed")));
        System.out.println("listening");
    }
}
