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

// Codes of server errors.
const (
	typeMismatch           = 14
	namespaceExists        = 48
	collectionUUIDMismatch = 361
	unknownField           = 40415
)

// legacyWireVersion is the maxWireVersion of MongoDB 4.4.
const legacyWireVersion = 9

// answer returns FerretDB's reply to a request, or what MongoDB would reply
// where FerretDB differs in a way that matters to the service. The caller
// sees to it that nothing else reaches FerretDB meanwhile, so to look first
// and then to act is one step.
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
		return s.guarded(database, request)
	}
	return exchange(database, request)
}

// exchange sends a message to FerretDB and returns its reply. FerretDB has
// one for every message, even where the protocol wants none.
func exchange(database net.Conn, request []byte) ([]byte, error) {
	if _, err := database.Write(request); err != nil {
		return nil, err
	}
	return readMessage(database)
}

// hello is the handshake of an old server.
func hello(database net.Conn, request []byte) ([]byte, error) {
	reply, err := exchange(database, request)
	if err != nil {
		return nil, err
	}
	if version, err := document(reply).LookupErr("maxWireVersion"); err == nil && version.Type == bson.TypeInt32 {
		binary.LittleEndian.PutUint32(version.Value, legacyWireVersion) // in the reply itself
	}
	return reply, nil
}

// create is content with a collection that is there already, with the same
// options, as MongoDB is since 7.0.
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
	if len(found) != 1 || cappingOf(found[0].Options) != cappingOf(command) {
		return reply, nil
	}
	return message(request, bson.D{{Key: "ok", Value: 1.0}})
}

// guarded is drop or renameCollection, which a client can make depend on the
// collection's UUID since MongoDB 6.0.
func (s *Server) guarded(database net.Conn, request []byte) ([]byte, error) {
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
		return exchange(database, request) // to itself is refused before anything else
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
	// FerretDB does not know the field.
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

// namespace returns what a drop or renameCollection is about.
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

// collectionInfo is what listCollections says of a collection.
type collectionInfo struct {
	Name    string
	Options bson.Raw
	Info    struct{ UUID bson.Binary }
}

// collections asks FerretDB for the collections that match a filter.
func collections(database net.Conn, request []byte, db string, filter bson.D) ([]collectionInfo, error) {
	question, err := message(request, bson.D{
		{Key: "listCollections", Value: 1},
		{Key: "filter", Value: filter},
		{Key: "$db", Value: db},
	})
	if err != nil {
		return nil, err
	}
	reply, err := exchange(database, question)
	if err != nil {
		return nil, err
	}
	var list struct {
		OK     float64
		ErrMsg string
		Cursor struct {
			ID         int64
			FirstBatch []collectionInfo
		}
	}
	if err := bson.Unmarshal(document(reply), &list); err != nil {
		return nil, err
	}
	if list.OK != 1 || list.Cursor.ID != 0 {
		return nil, fmt.Errorf("listCollections: %s", list.ErrMsg)
	}
	return list.Cursor.FirstBatch, nil
}

// capping is what FerretDB lets one choose of a collection.
type capping struct {
	capped    bool
	size, max int64
}

func cappingOf(options bson.Raw) capping {
	if capped := options.Lookup("capped"); number(capped) == 0 {
		return capping{}
	}
	return capping{true, number(options.Lookup("size")), number(options.Lookup("max"))}
}

func number(v bson.RawValue) int64 {
	if b, ok := v.BooleanOK(); ok && b {
		return 1
	}
	n, _ := v.AsInt64OK()
	return n
}

// failure is the reply to a request that is refused.
func failure(request []byte, code int32, codeName, text string, more ...bson.E) ([]byte, error) {
	return message(request, append(bson.D{
		{Key: "ok", Value: 0.0},
		{Key: "errmsg", Value: text},
		{Key: "code", Value: code},
		{Key: "codeName", Value: codeName},
	}, more...))
}
