package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Codes of errors of MongoDB.
const (
	typeMismatch           = 14
	namespaceExists        = 48
	collectionUUIDMismatch = 361
	unknownField           = 40415
)

// legacyWireVersion is the maxWireVersion of MongoDB 4.4.
const legacyWireVersion = 9

// answer returns the reply to a request. It is FerretDB's, or MongoDB's where the
// two differ and the service needs the latter. The caller holds s.command, so
// that a check and the command after it are one atomic step.
func (s *Server) answer(database net.Conn, request []byte) ([]byte, error) {
	switch commandName(request) {
	case "hello", "isMaster", "ismaster":
		if s.legacy {
			return hello(database, request)
		}
	case "create":
		if !s.legacy {
			return create(database, request)
		}
	case "drop", "renameCollection":
		return s.dropOrRename(database, request)
	case "serverStatus":
		return s.status(database, request)
	}
	return exchange(database, request)
}

// exchange sends a request to FerretDB and returns the reply. FerretDB replies to
// every request, even if the client expects no reply.
func exchange(database net.Conn, request []byte) ([]byte, error) {
	if _, err := database.Write(request); err != nil {
		return nil, err
	}
	return readMessage(database)
}

// hello replies to the handshake as MongoDB 4.4 does.
func hello(database net.Conn, request []byte) ([]byte, error) {
	reply, err := exchange(database, request)
	if err != nil {
		return nil, err
	}
	if version, err := document(reply).LookupErr("maxWireVersion"); err == nil && version.Type == bson.TypeInt32 {
		binary.LittleEndian.PutUint32(version.Value, legacyWireVersion) // changes the reply
	}
	return reply, nil
}

// status replies to serverStatus, with the connections of clients, which FerretDB does not count.
func (s *Server) status(database net.Conn, request []byte) ([]byte, error) {
	reply, err := exchange(database, request)
	if err != nil {
		return nil, err
	}
	var fields bson.D
	if err := bson.Unmarshal(document(reply), &fields); err != nil {
		return nil, err
	}
	fields = slices.DeleteFunc(fields, func(e bson.E) bool { return e.Key == "connections" })
	open, accepted, rejected := s.Connections()
	return message(request, append(fields, bson.E{Key: "connections", Value: bson.D{
		{Key: "current", Value: open},
		{Key: "available", Value: s.most - open},
		{Key: "totalCreated", Value: accepted},
		{Key: "rejected", Value: rejected},
	}}))
}

// create creates a collection. It also succeeds if there is one of the same name
// and options, as in MongoDB 7.0 and newer.
func create(database net.Conn, request []byte) ([]byte, error) {
	reply, err := exchange(database, request)
	if err != nil {
		return nil, err
	}
	code, ok := document(reply).Lookup("code").AsInt64OK()
	if !ok || code != namespaceExists {
		return reply, nil
	}
	command := document(request)
	name := command.Index(0).Value().StringValue()
	found, err := collections(database, request, command.Lookup("$db").StringValue(), bson.D{{Key: "name", Value: name}})
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || parseCapped(found[0].Options) != parseCapped(command) {
		return reply, nil
	}
	return message(request, bson.D{{Key: "ok", Value: 1.0}})
}

// dropOrRename runs drop or renameCollection. If the command has a collectionUUID, it
// first compares that with the UUID of the collection, as MongoDB does since 6.0.
func (s *Server) dropOrRename(database net.Conn, request []byte) ([]byte, error) {
	command := document(request)
	if command.Validate() != nil {
		return exchange(database, request)
	}
	const field = "collectionUUID"
	expected, err := command.LookupErr(field)
	if err != nil {
		return exchange(database, request)
	}
	name := commandName(request)
	if s.legacy {
		return failure(request, unknownField, "Location40415",
			fmt.Sprintf("BSON field '%s.%s' is an unknown field.", name, field))
	}
	subtype, id, ok := expected.BinaryOK()
	if !ok || subtype != bson.TypeBinaryUUID || len(id) != 16 {
		return failure(request, typeMismatch, "TypeMismatch",
			fmt.Sprintf("BSON field '%s.%s' is the wrong type, expected type 'binData' of subtype 'UUID'", name, field))
	}
	db, collection := namespace(command)
	if to, _ := command.Lookup("to").StringValueOK(); to == db+"."+collection {
		return exchange(database, request) // FerretDB refuses a rename to the same name, which comes first
	}
	found, err := collections(database, request, db, bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "name", Value: collection}},
		bson.D{{Key: "info.uuid", Value: expected}},
	}}})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(found, func(c collectionInfo) bool { return bytes.Equal(c.Info.UUID.Data, id) })
	if i < 0 || found[i].Name != collection {
		var actual any
		if i >= 0 {
			actual = found[i].Name
		}
		return failure(request, collectionUUIDMismatch, "CollectionUUIDMismatch",
			"Collection UUID does not match that specified",
			bson.E{Key: "db", Value: db},
			bson.E{Key: field, Value: expected},
			bson.E{Key: "expectedCollection", Value: collection},
			bson.E{Key: "actualCollection", Value: actual})
	}
	// FerretDB does not know the field, so the command goes on without it.
	elements, err := command.Elements()
	if err != nil {
		return nil, err
	}
	var rest bson.D
	for _, e := range elements {
		if e.Key() != field {
			rest = append(rest, bson.E{Key: e.Key(), Value: e.Value()})
		}
	}
	if request, err = message(request, rest); err != nil {
		return nil, err
	}
	return exchange(database, request)
}

// namespace returns the database and collection that a drop or renameCollection
// names.
func namespace(command bson.Raw) (db, collection string) {
	first := command.Index(0)
	name, _ := first.Value().StringValueOK()
	if first.Key() == "renameCollection" {
		db, collection, _ = strings.Cut(name, ".")
		return db, collection
	}
	db, _ = command.Lookup("$db").StringValueOK()
	return db, name
}

// collectionInfo is the entry of a collection in listCollections.
type collectionInfo struct {
	Name    string
	Options bson.Raw
	Info    struct{ UUID bson.Binary }
}

// collections returns the collections of a database that match a filter. request
// is the request that it is done for.
func collections(database net.Conn, request []byte, db string, filter bson.D) ([]collectionInfo, error) {
	query, err := message(request, bson.D{
		{Key: "listCollections", Value: 1},
		{Key: "filter", Value: filter},
		{Key: "$db", Value: db},
	})
	if err != nil {
		return nil, err
	}
	reply, err := exchange(database, query)
	if err != nil {
		return nil, err
	}
	var result struct {
		OK     float64
		ErrMsg string
		Cursor struct {
			ID         int64
			FirstBatch []collectionInfo
		}
	}
	if err := bson.Unmarshal(document(reply), &result); err != nil {
		return nil, err
	}
	if result.OK != 1 || result.Cursor.ID != 0 {
		return nil, fmt.Errorf("listCollections: %s", result.ErrMsg)
	}
	return result.Cursor.FirstBatch, nil
}

// cappedOptions holds the options that FerretDB has for a collection.
type cappedOptions struct {
	capped    bool
	size, max int64
}

// parseCapped returns the options in a create command or in collectionInfo.
func parseCapped(options bson.Raw) cappedOptions {
	if capped := options.Lookup("capped"); number(capped) == 0 {
		return cappedOptions{}
	}
	return cappedOptions{true, number(options.Lookup("size")), number(options.Lookup("max"))}
}

// number returns a boolean or a number as a number.
func number(v bson.RawValue) int64 {
	if b, ok := v.BooleanOK(); ok && b {
		return 1
	}
	n, _ := v.AsInt64OK()
	return n
}

// failure returns the reply for a command that has failed.
func failure(request []byte, code int32, codeName, text string, more ...bson.E) ([]byte, error) {
	return message(request, append(bson.D{
		{Key: "ok", Value: 0.0},
		{Key: "errmsg", Value: text},
		{Key: "code", Value: code},
		{Key: "codeName", Value: codeName},
	}, more...))
}
