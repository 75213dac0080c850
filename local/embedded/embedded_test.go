package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// start starts a server, which ends with the test.
func start(t testing.TB, choices ...Option) *Server {
	t.Helper()
	s, err := Start(t.TempDir(), "127.0.0.1:0", choices...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t testing.TB, s *Server) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(s.URL()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return client
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code int) {
	t.Helper()
	var server mongo.ServerError
	if !errors.As(err, &server) || !server.HasErrorCode(code) {
		t.Errorf("got %v, want a server error with code %d", err, code)
	}
}

// uuids returns the UUIDs of the collections, by name.
func uuids(t testing.TB, db *mongo.Database) map[string]bson.Binary {
	t.Helper()
	cursor, err := db.ListCollections(t.Context(), bson.D{})
	must(t, err)
	var list []collectionInfo
	must(t, cursor.All(t.Context(), &list))
	all := map[string]bson.Binary{}
	for _, c := range list {
		all[c.Name] = c.Info.UUID
	}
	return all
}

func wantNames(t testing.TB, db *mongo.Database, want ...string) {
	t.Helper()
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	must(t, err)
	if got, want := fmt.Sprint(names), fmt.Sprint(want); got != want {
		t.Errorf("the collections are %s, want %s", got, want)
	}
}

func drop(t testing.TB, db *mongo.Database, name string, id any) error {
	return db.RunCommand(t.Context(), bson.D{{Key: "drop", Value: name}, {Key: "collectionUUID", Value: id}}).Err()
}

func rename(t testing.TB, db *mongo.Database, from, to string, more ...bson.E) error {
	return db.Client().Database("admin").RunCommand(t.Context(), append(bson.D{
		{Key: "renameCollection", Value: db.Name() + "." + from},
		{Key: "to", Value: db.Name() + "." + to},
	}, more...)).Err()
}

// TestIncrements is why the proxy exists: FerretDB alone loses most increments.
func TestIncrements(t *testing.T) {
	c := connect(t, start(t)).Database("test").Collection("counters")
	_, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "n"}, {Key: "n", Value: 0}})
	must(t, err)
	const clients, each = 50, 4
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				_, err := c.UpdateByID(t.Context(), "n", bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var doc struct{ N int }
	must(t, c.FindOne(t.Context(), bson.D{}).Decode(&doc))
	if doc.N != clients*each {
		t.Errorf("after %d increments the counter is %d", clients*each, doc.N)
	}
}

// TestCompareAndSet checks that only one of many updates of the same revision
// succeeds.
func TestCompareAndSet(t *testing.T) {
	c := connect(t, start(t)).Database("test").Collection("records")
	_, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "r"}, {Key: "revision", Value: 0}})
	must(t, err)
	for round := range 5 {
		var winners atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				res, err := c.UpdateOne(t.Context(),
					bson.D{{Key: "_id", Value: "r"}, {Key: "revision", Value: round}},
					bson.D{{Key: "$set", Value: bson.D{{Key: "revision", Value: round + 1}}}})
				if err != nil {
					t.Error(err)
					return
				}
				winners.Add(int32(res.ModifiedCount))
			})
		}
		wg.Wait()
		if n := winners.Load(); n != 1 {
			t.Errorf("round %d has %d winners", round, n)
		}
	}
}

// TestUpserts checks that only one of many upserts of the same document inserts
// it. The others update it.
func TestUpserts(t *testing.T) {
	c := connect(t, start(t)).Database("test").Collection("attempts")
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			res, err := c.UpdateByID(t.Context(), "a", bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}},
				options.UpdateOne().SetUpsert(true))
			if err != nil {
				t.Error(err)
				return
			}
			made.Add(int32(res.UpsertedCount))
		})
	}
	wg.Wait()
	var doc struct{ N int }
	must(t, c.FindOne(t.Context(), bson.D{}).Decode(&doc))
	if made.Load() != 1 || doc.N != 50 {
		t.Errorf("made %d times, counted to %d", made.Load(), doc.N)
	}
}

func TestCreateExisting(t *testing.T) {
	db := connect(t, start(t)).Database("test")
	must(t, db.CreateCollection(t.Context(), "c"))
	before := uuids(t, db)["c"]
	_, err := db.Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}})
	must(t, err)
	must(t, db.CreateCollection(t.Context(), "c"))
	if after := uuids(t, db)["c"]; !before.Equal(after) {
		t.Errorf("the UUID was %x and is %x", before.Data, after.Data)
	}
	if n, err := db.Collection("c").CountDocuments(t.Context(), bson.D{}); n != 1 || err != nil {
		t.Errorf("it has %d documents, %v", n, err)
	}

	capped := options.CreateCollection().SetCapped(true).SetSizeInBytes(4096)
	wantCode(t, db.CreateCollection(t.Context(), "c", capped), namespaceExists)
	must(t, db.CreateCollection(t.Context(), "capped", capped))
	must(t, db.CreateCollection(t.Context(), "capped", capped))
	wantCode(t, db.CreateCollection(t.Context(), "capped"), namespaceExists)

	// Other errors are as before.
	wantCode(t, db.CreateCollection(t.Context(), "a$b"), 73)
}

// TestUUIDs checks that a collection keeps its UUID through renames and restarts,
// and that no two collections ever have the same one.
func TestUUIDs(t *testing.T) {
	dir := t.TempDir()
	s, err := Start(dir, "127.0.0.1:0")
	must(t, err)
	client := connect(t, s)
	db := client.Database("test")

	must(t, db.CreateCollection(t.Context(), "a"))
	first := uuids(t, db)["a"]
	if first.Subtype != bson.TypeBinaryUUID || len(first.Data) != 16 {
		t.Fatalf("the UUID is %v", first)
	}
	_, err = db.Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}})
	must(t, err)
	_, err = db.Collection("a").Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "x", Value: 1}}})
	must(t, err)
	must(t, rename(t, db, "a", "b"))
	wantNames(t, db, "b")
	if moved := uuids(t, db)["b"]; !first.Equal(moved) {
		t.Errorf("the rename changed the UUID from %x to %x", first.Data, moved.Data)
	}

	// Three more collections of this name, and one that an insert creates.
	seen := map[string]string{string(first.Data): "b"}
	for i := range 3 {
		must(t, db.CreateCollection(t.Context(), "a"))
		id := uuids(t, db)["a"]
		if was := seen[string(id.Data)]; was != "" {
			t.Errorf("a has the UUID of %s", was)
		}
		seen[string(id.Data)] = fmt.Sprintf("a, time %d", i)
		must(t, db.Collection("a").Drop(t.Context()))
	}
	_, err = db.Collection("c").InsertOne(t.Context(), bson.D{})
	must(t, err)
	other := client.Database("other")
	must(t, other.CreateCollection(t.Context(), "b"))
	for _, id := range []bson.Binary{uuids(t, db)["c"], uuids(t, other)["b"]} {
		if was := seen[string(id.Data)]; was != "" || len(id.Data) != 16 {
			t.Errorf("the UUID %x is also that of %s", id.Data, was)
		}
	}

	before := uuids(t, db)
	must(t, client.Disconnect(t.Context()))
	s.Close()
	s, err = Start(dir, "127.0.0.1:0")
	must(t, err)
	t.Cleanup(s.Close)
	after := uuids(t, connect(t, s).Database("test"))
	if fmt.Sprint(before) != fmt.Sprint(after) || len(after) != 2 {
		t.Errorf("before the restart: %v\nafter it: %v", before, after)
	}
}

func wantMismatch(t *testing.T, err error, id bson.Binary, db, expected string, actual any) {
	t.Helper()
	var e mongo.CommandError
	if !errors.As(err, &e) || e.Code != 361 || e.Name != "CollectionUUIDMismatch" {
		t.Errorf("got %v, want CollectionUUIDMismatch", err)
		return
	}
	var got bson.D
	must(t, bson.Unmarshal(e.Raw, &got))
	want := bson.D{
		{Key: "ok", Value: 0.0},
		{Key: "errmsg", Value: e.Message},
		{Key: "code", Value: int32(361)},
		{Key: "codeName", Value: "CollectionUUIDMismatch"},
		{Key: "db", Value: db},
		{Key: "collectionUUID", Value: id},
		{Key: "expectedCollection", Value: expected},
		{Key: "actualCollection", Value: actual},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// The cases are from MongoDB's own tests, collection_uuid_drop.js and
// collection_uuid_rename_collection.js.
func TestCollectionUUID(t *testing.T) {
	client := connect(t, start(t))
	nobody := bson.Binary{Subtype: bson.TypeBinaryUUID, Data: []byte("0123456789abcdef")}
	for name, act := range map[string]func(db *mongo.Database, name string, id any) error{
		"Drop": func(db *mongo.Database, name string, id any) error { return drop(t, db, name, id) },
		"Rename": func(db *mongo.Database, name string, id any) error {
			return rename(t, db, name, "moved", bson.E{Key: "collectionUUID", Value: id})
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := client.Database("test_" + strings.ToLower(name))
			must(t, db.CreateCollection(t.Context(), "a"))
			must(t, db.CreateCollection(t.Context(), "b"))
			a := uuids(t, db)["a"]

			wantMismatch(t, act(db, "a", nobody), nobody, db.Name(), "a", nil)
			wantMismatch(t, act(db, "b", a), a, db.Name(), "b", "a")
			wantMismatch(t, act(db, "missing", a), a, db.Name(), "missing", "a")
			wantMismatch(t, act(db, "missing", nobody), nobody, db.Name(), "missing", nil)
			elsewhere := client.Database("nowhere")
			wantMismatch(t, act(elsewhere, "a", a), a, "nowhere", "a", nil)
			wantCode(t, act(db, "a", "text"), typeMismatch)
			wantCode(t, act(db, "a", bson.Binary{Subtype: 0, Data: a.Data}), typeMismatch)
			wantCode(t, act(db, "a", bson.Binary{Subtype: 4, Data: a.Data[:8]}), typeMismatch)
			wantNames(t, db, "a", "b")

			// A new collection of the same name has another UUID.
			must(t, db.Collection("a").Drop(t.Context()))
			must(t, db.CreateCollection(t.Context(), "a"))
			wantMismatch(t, act(db, "a", a), a, db.Name(), "a", nil)
			wantNames(t, db, "a", "b")

			must(t, act(db, "a", uuids(t, db)["a"]))
			if name == "Drop" {
				wantNames(t, db, "b")
			} else {
				wantNames(t, db, "b", "moved")
			}
		})
	}
	t.Run("RenameOntoAnother", func(t *testing.T) {
		db := client.Database("test_onto")
		must(t, db.CreateCollection(t.Context(), "a"))
		must(t, db.CreateCollection(t.Context(), "b"))
		id := uuids(t, db)
		guard := func(name string) bson.E { return bson.E{Key: "collectionUUID", Value: id[name]} }
		wantCode(t, rename(t, db, "a", "b", guard("a")), namespaceExists)
		wantMismatch(t, rename(t, db, "a", "b", guard("b")), id["b"], db.Name(), "a", "b")
		wantCode(t, rename(t, db, "a", "a", guard("b")), 20) // a rename to the same name
		wantNames(t, db, "a", "b")
		// The other fields of the command reach FerretDB.
		must(t, rename(t, db, "a", "c", guard("a"), bson.E{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}}))
		wantNames(t, db, "b", "c")
	})
	t.Run("Without", func(t *testing.T) {
		db := client.Database("test_without")
		must(t, db.CreateCollection(t.Context(), "a"))
		wantCode(t, rename(t, db, "missing", "b"), 26)
		must(t, rename(t, db, "a", "b"))
		must(t, db.Collection("b").Drop(t.Context()))
		must(t, db.Collection("b").Drop(t.Context()))
		wantNames(t, db)
	})
}

// TestRenameRace renames and drops the same collection at once, both by its UUID.
// A new collection of the same name stays, whichever comes first.
func TestRenameRace(t *testing.T) {
	db := connect(t, start(t)).Database("test")
	for range 20 {
		must(t, db.CreateCollection(t.Context(), "a"))
		id := uuids(t, db)["a"]
		var wg sync.WaitGroup
		var dropped, renamed error
		wg.Go(func() { dropped = drop(t, db, "a", id) })
		wg.Go(func() { renamed = rename(t, db, "a", "b", bson.E{Key: "collectionUUID", Value: id}) })
		wg.Wait()
		if (dropped == nil) == (renamed == nil) {
			t.Fatalf("drop: %v, rename: %v", dropped, renamed)
		}
		if dropped != nil {
			wantMismatch(t, dropped, id, "test", "a", "b")
			must(t, drop(t, db, "b", id))
		} else {
			wantMismatch(t, renamed, id, "test", "a", nil)
		}
		wantNames(t, db)
	}
}

func TestLegacy(t *testing.T) {
	s := start(t, Legacy)
	client := connect(t, s)
	db := client.Database("test")
	must(t, db.CreateCollection(t.Context(), "a"))
	wantCode(t, db.CreateCollection(t.Context(), "a"), namespaceExists)
	id := uuids(t, db)["a"]
	wantCode(t, drop(t, db, "a", id), unknownField)
	wantCode(t, rename(t, db, "a", "b", bson.E{Key: "collectionUUID", Value: id}), unknownField)
	wantNames(t, db, "a")
	must(t, rename(t, db, "a", "b"))
	must(t, db.Collection("b").Drop(t.Context()))
	wantNames(t, db)
}

// TestWireVersion does the handshake in all the ways of the drivers.
func TestWireVersion(t *testing.T) {
	for name, test := range map[string]struct {
		server *Server
		want   int32
	}{
		"Modern": {start(t), 21},
		"Legacy": {start(t, Legacy), 9},
	} {
		t.Run(name, func(t *testing.T) {
			for _, hello := range []string{"hello", "isMaster", "ismaster"} {
				var got struct{ MaxWireVersion int32 }
				command := bson.D{{Key: hello, Value: 1}}
				must(t, connect(t, test.server).Database("admin").RunCommand(t.Context(), command).Decode(&got))
				if got.MaxWireVersion != test.want {
					t.Errorf("%s: maxWireVersion %d, want %d", hello, got.MaxWireVersion, test.want)
				}
			}
			// The first message of a connection may be an OP_QUERY.
			conn := dial(t, test.server)
			body, err := bson.Marshal(bson.D{{Key: "isMaster", Value: 1}})
			must(t, err)
			query := binary.LittleEndian.AppendUint32(nil, 0) // flags
			query = append(query, "admin.$cmd\x00"...)
			query = binary.LittleEndian.AppendUint32(query, 0)
			query = binary.LittleEndian.AppendUint32(query, 0xffffffff)
			send(t, conn, opQuery, append(query, body...))
			reply, err := readMessage(conn)
			must(t, err)
			if v, _ := document(reply).Lookup("maxWireVersion").Int32OK(); v != test.want || kind(reply) != opReply {
				t.Errorf("a message of kind %d with maxWireVersion %d, want %d", kind(reply), v, test.want)
			}
		})
	}
}

// TestUnacknowledged sends commands that expect no reply. The next command must
// not get their reply.
func TestUnacknowledged(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI(start(t).URL()).SetMaxPoolSize(1))
	must(t, err)
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	db := client.Database("test")
	quiet := db.Collection("c", options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
	for i := range 3 {
		if _, err := quiet.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		var doc struct {
			ID int `bson:"_id"`
		}
		must(t, db.Collection("c").FindOne(t.Context(), bson.D{{Key: "_id", Value: i}}).Decode(&doc))
		if doc.ID != i {
			t.Errorf("asked for %d, got %d", i, doc.ID)
		}
	}
	wantNames(t, db, "c")
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

func header(size, kind uint32) []byte {
	m := binary.LittleEndian.AppendUint32(nil, size)
	m = append(m, 7, 0, 0, 0, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(m, kind)
}

func send(t *testing.T, conn net.Conn, kind uint32, rest []byte) {
	t.Helper()
	_, err := conn.Write(append(header(uint32(headerSize+len(rest)), kind), rest...))
	must(t, err)
}

// wantClosed checks that the server closes the connection and sends nothing.
func wantClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	var netErr net.Error
	b, err := io.ReadAll(conn)
	if len(b) > 0 || errors.As(err, &netErr) && netErr.Timeout() {
		t.Errorf("the server answered % x, %v", b, err)
	}
}

// TestBadMessages sends messages that no driver sends. The server closes the
// connection or answers with an error, and serves the other connections.
func TestBadMessages(t *testing.T) {
	s := start(t)
	db := connect(t, s).Database("test")
	section := func(doc bson.D) []byte {
		body, err := bson.Marshal(doc)
		must(t, err)
		return append([]byte{0, 0, 0, 0, 0}, body...)
	}
	oversized := section(bson.D{{Key: "drop", Value: "a"}, {Key: "$db", Value: "test"}})
	binary.LittleEndian.PutUint32(oversized[5:], 1<<31-1)
	inner := section(bson.D{{Key: "drop", Value: "a"}, {Key: "collectionUUID", Value: "x"}, {Key: "$db", Value: "test"}})
	inner[bytes.Index(inner, []byte("drop\x00"))+5] = 0xff // makes the length of the string wrong
	for name, message := range map[string][]byte{
		"TooLong":       header(maxMessageSize+1, opMsg),
		"Negative":      header(1<<32-1, opMsg),
		"TooShort":      append(header(headerSize, opMsg), 0, 0, 0, 0),
		"UnknownKind":   append(header(headerSize+4, 9999), 0, 0, 0, 0),
		"NoDocument":    append(header(headerSize+4, opMsg), 0, 0, 0, 0),
		"EmptySequence": append(header(headerSize+9, opMsg), 0, 0, 0, 0, 1, 0, 0, 0, 0),
		"LongSequence":  append(header(headerSize+9, opMsg), 0, 0, 0, 0, 1, 255, 255, 255, 255),
		"OtherSection":  append(header(headerSize+9, opMsg), 0, 0, 0, 0, 2, 5, 0, 0, 0),
		"LongDocument":  append(header(uint32(headerSize+len(oversized)), opMsg), oversized...),
		"BadDocument":   append(header(uint32(headerSize+len(inner)), opMsg), inner...),
		"OldInsert":     append(header(headerSize+9, 2002), 0, 0, 0, 0, 'a', '.', 'b', 0, 0),
		"OldQuery":      append(header(headerSize+9, opQuery), 0, 0, 0, 0, 'a', '.', 'b', 0, 0),
		"NoName":        append(header(headerSize+6, opQuery), 0, 0, 0, 0, 'a', '.'),
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, s)
			_, err := conn.Write(message)
			must(t, err)
			wantClosed(t, conn)
			must(t, db.RunCommand(t.Context(), bson.D{{Key: "ping", Value: 1}}).Err())
		})
	}
	for name, command := range map[string]bson.D{
		"NoCommand":    {},
		"Unknown":      {{Key: "conquer", Value: 1}, {Key: "$db", Value: "test"}},
		"NoDatabase":   {{Key: "drop", Value: "a"}},
		"DropNumber":   {{Key: "drop", Value: 1}, {Key: "$db", Value: "test"}},
		"CreateNumber": {{Key: "create", Value: 1}, {Key: "$db", Value: "test"}},
		"GuardNumber":  {{Key: "drop", Value: 1}, {Key: "collectionUUID", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}, {Key: "$db", Value: "test"}},
		"GuardNothing": {{Key: "renameCollection", Value: "a"}, {Key: "collectionUUID", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, s)
			send(t, conn, opMsg, section(command))
			reply, err := readMessage(conn)
			if err != nil {
				return // FerretDB has closed the connection
			}
			if ok := document(reply).Lookup("ok"); !ok.Equal(bson.RawValue{Type: bson.TypeDouble, Value: make([]byte, 8)}) {
				t.Errorf("the answer is %v", document(reply))
			}
			if id := binary.LittleEndian.Uint32(reply[8:]); id != 7 {
				t.Errorf("the answer is to message %d", id)
			}
		})
	}
}

// connections waits until the proxy has so many connections, to clients and to
// FerretDB together.
func connections(t *testing.T, s *Server, want int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		s.mu.Lock()
		got := len(s.conns)
		s.mu.Unlock()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there are %d connections, want %d", got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestVanish closes connections in the middle of a message, and before the reply.
func TestVanish(t *testing.T) {
	s := start(t)
	body, err := bson.Marshal(bson.D{{Key: "create", Value: "a"}, {Key: "$db", Value: "test"}})
	must(t, err)
	whole := append(header(uint32(headerSize+5+len(body)), opMsg), 0, 0, 0, 0, 0)
	whole = append(whole, body...)
	for _, n := range []int{0, 2, 10, 20, len(whole) - 1} {
		conn := dial(t, s)
		_, err := conn.Write(whole[:n])
		must(t, err)
		connections(t, s, 2)
		must(t, conn.Close())
		connections(t, s, 0)
	}
	db := connect(t, s).Database("test")
	wantNames(t, db)
	conn := dial(t, s)
	_, err = conn.Write(whole)
	must(t, err)
	must(t, conn.Close())
	deadline := time.Now().Add(time.Minute)
	for len(uuids(t, db)) == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	wantNames(t, db, "a") // the whole command was sent
}

// TestClose closes the server while connections are idle, in the middle of a
// message and in a command.
func TestClose(t *testing.T) {
	s, err := Start(t.TempDir(), "127.0.0.1:0")
	must(t, err)
	db := connect(t, s).Database("test")
	working := make(chan error)
	first := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			_, err := db.Collection("c").InsertOne(context.Background(), bson.D{{Key: "_id", Value: i}})
			if err != nil {
				working <- err
				return
			}
			if i == 0 {
				close(first)
			}
		}
	}()
	<-first
	idle, middle := dial(t, s), dial(t, s)
	_, err = middle.Write(header(1000, opMsg)[:10])
	must(t, err)

	closed := make(chan struct{})
	go func() {
		s.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("Close does not return")
	}
	wantClosed(t, idle)
	wantClosed(t, middle)
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		wantClosed(t, conn)
		t.Error("it still listens")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, db.Client().Disconnect(ctx))
	if err := <-working; err == nil {
		t.Error("a write succeeded after Close")
	}
}

// TestQueries runs the less simple queries of the service.
func TestQueries(t *testing.T) {
	db := connect(t, start(t)).Database("test")
	for _, name := range []string{"a", "b", "c"} {
		must(t, db.CreateCollection(t.Context(), name))
	}
	names, err := db.ListCollectionNames(t.Context(), bson.D{{Key: "name", Value: bson.D{{Key: "$in", Value: bson.A{"a", "c", "z"}}}}})
	must(t, err)
	if fmt.Sprint(names) != "[a c]" {
		t.Errorf("listCollections with $in: %v", names)
	}

	c := db.Collection("a", options.Collection().SetReadConcern(readconcern.Majority()))
	_, err = c.InsertMany(t.Context(), []any{
		bson.D{{Key: "_id", Value: 1}, {Key: "n", Value: 1}},
		bson.D{{Key: "_id", Value: 2}, {Key: "n", Value: 2}},
		bson.D{{Key: "_id", Value: 3}},
		bson.D{{Key: "_id", Value: 4}, {Key: "n", Value: nil}},
	})
	must(t, err)
	for _, test := range []struct {
		name   string
		filter bson.D
		want   string
	}{
		{"All", bson.D{}, "[1 2 3 4]"},
		{"NotAtLeast", bson.D{{Key: "n", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: 2}}}}}}, "[1 3 4]"},
		{"Less", bson.D{{Key: "n", Value: bson.D{{Key: "$lt", Value: 2}}}}, "[1]"},
		{"Missing", bson.D{{Key: "n", Value: bson.D{{Key: "$exists", Value: false}}}}, "[3]"},
		{"Null", bson.D{{Key: "n", Value: nil}}, "[3 4]"},
		{"NeverThere", bson.D{{Key: "x", Value: 1}}, "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cursor, err := c.Find(t.Context(), test.filter)
			must(t, err)
			var docs []struct {
				ID int `bson:"_id"`
			}
			must(t, cursor.All(t.Context(), &docs))
			ids := []int{}
			for _, d := range docs {
				ids = append(ids, d.ID)
			}
			if fmt.Sprint(ids) != test.want {
				t.Errorf("got %v, want %s", ids, test.want)
			}
			// An update finds the same documents.
			res, err := c.UpdateMany(t.Context(), test.filter, bson.D{{Key: "$set", Value: bson.D{{Key: "seen", Value: test.name}}}})
			must(t, err)
			if int(res.MatchedCount) != len(ids) {
				t.Errorf("updated %d", res.MatchedCount)
			}
		})
	}
}

// TestAtMost makes more connections than the server accepts.
func TestAtMost(t *testing.T) {
	s := start(t, AtMost(2))
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", s.Addr())
		must(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	// One of them is closed, whichever the server has accepted last.
	ended := make(chan int)
	for i, c := range conns {
		go func() {
			c.Read(make([]byte, 1))
			ended <- i
		}()
	}
	closed := <-ended
	if open, accepted, rejected := s.Connections(); open != 2 || accepted != 2 || rejected != 1 {
		t.Errorf("%d connections, %d accepted, %d rejected; want 2, 2, 1", open, accepted, rejected)
	}
	conns[(closed+1)%3].Close()
	<-ended
}

func TestServerStatus(t *testing.T) {
	s := start(t, AtMost(20))
	var status struct {
		Version     string
		Connections struct{ Current, Available, TotalCreated, Rejected int }
	}
	must(t, connect(t, s).Database("admin").RunCommand(t.Context(), bson.D{{Key: "serverStatus", Value: 1}}).Decode(&status))
	c := status.Connections
	if status.Version == "" || c.Current < 2 || c.Current+c.Available != 20 || c.TotalCreated < c.Current || c.Rejected != 0 {
		t.Errorf("%+v; want at least the client's two connections, of 20", status)
	}
}
