import java.io.OutputStream;
import java.util.List;

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.exception.MongoServerException;
import io.netty.channel.Channel;

/**
 * Runs mongo-java-server, a MongoDB in memory that has nothing in common with
 * the embedded one: prints its connection string, and ends when its standard
 * input does.
 */
public final class Serve {
    /** Its own version is older than the driver accepts, by the number that counts. */
    private static final MongoVersion VERSION = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    };

    /** It refuses to rename what is not there, but without the error's code. */
    private static final class Backend extends MemoryBackend {
        @Override
        public Document handleCommand(Channel channel, String database, String command, Document query) {
            try {
                return super.handleCommand(channel, database, command, query);
            } catch (MongoServerException e) {
                if (command.equals("renameCollection") && "source namespace does not exist".equals(e.getMessage())) {
                    throw new MongoServerError(26, "NamespaceNotFound", e.getMessage());
                }
                throw e;
            }
        }
    }

    public static void main(String[] args) throws Exception {
        MongoServer server = new MongoServer(new Backend().version(VERSION));
        server.bind("127.0.0.1", 0);
        System.out.println("mongodb://127.0.0.1:" + server.getLocalAddress().getPort() + "/");
        System.in.transferTo(OutputStream.nullOutputStream());
        server.shutdownNow();
    }
}
