import java.io.OutputStream;
import java.util.Collection;
import java.util.List;

import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import io.netty.channel.Channel;

/**
 * Runs mongo-java-server, an in-memory MongoDB that shares no code with the
 * embedded database. It prints its connection string, and ends at the end of its
 * standard input.
 */
public final class Serve {
    /** MongoDB 6.0, in which commands compare the UUIDs of collections. */
    private static final MongoVersion VERSION = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(6, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 17;
        }
    };

    /** Returns and compares the UUIDs of collections, as MongoDB does. */
    private static final class Backend extends MemoryBackend {
        @Override
        public Document handleCommand(Channel channel, String database, String command, Document query) {
            switch (command) {
                case "hello":
                    return super.handleCommand(channel, database, "isMaster", query);
                case "listCollections":
                    return list(channel, database, command, query);
                case "drop":
                    return compared(channel, database, command, query, database + "." + query.get("drop"));
                case "renameCollection":
                    return compared(channel, database, command, query, (String) query.get("renameCollection"));
                case "create":
                    synchronized (this) {
                        return super.handleCommand(channel, database, command, query);
                    }
                case "find":
                case "findAndModify":
                case "createIndexes":
                    return alone(channel, database, command, query, (String) query.get(command));
                case "getMore":
                    return alone(channel, database, command, query, (String) query.get("collection"));
                default:
                    return super.handleCommand(channel, database, command, query);
            }
        }

        /**
         * Runs the command while the collection has no other, and returns copies of the
         * documents. The server would send the stored ones, in whatever state writes have
         * them then, and close the connection if they change while it encodes them. And it
         * would add an index while inserts go through the list of indexes, and fail those.
         */
        private Document alone(Channel channel, String database, String command, Document query, String collection) {
            MongoDatabase db = resolveDatabase(database);
            synchronized (db) { // the order in which the server locks them
                MongoCollection<?> c = db.resolveCollection(collection, false);
                synchronized (c == null ? db : c) {
                    return super.handleCommand(channel, database, command, query).cloneDeeply();
                }
            }
        }

        private synchronized Document list(Channel channel, String database, String command, Document query) {
            Document reply = super.handleCommand(channel, database, command, query);
            for (Object entry : (Collection<?>) ((Document) reply.get("cursor")).get("firstBatch")) {
                MongoCollection<?> c = resolveDatabase(database).resolveCollection((String) ((Document) entry).get("name"), false);
                if (c != null) {
                    ((Document) ((Document) entry).get("info")).put("uuid", c.getUuid());
                }
            }
            return reply;
        }

        /** Compares the UUID and runs the command as one step for other such commands. */
        private synchronized Document compared(Channel channel, String database, String command, Document query, String namespace) {
            String[] name = namespace.split("\\.", 2);
            MongoCollection<?> c = resolveDatabase(name[0]).resolveCollection(name[1], false);
            Object wanted = query.get("collectionUUID");
            if (wanted != null && (c == null || !c.getUuid().equals(wanted))) {
                throw new MongoServerError(361, "CollectionUUIDMismatch", "Collection UUID does not match that specified");
            }
            if (c == null && command.equals("renameCollection")) { // its own error has no code
                throw new MongoServerError(26, "NamespaceNotFound", "source namespace does not exist");
            }
            return super.handleCommand(channel, database, command, query);
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
