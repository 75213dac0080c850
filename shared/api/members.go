package api

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"orgservice/shared/org"
)

// A list comes in pages of so many items, unless the client asks for fewer or more.
const (
	defaultLimit = 50
	maxLimit     = 100
)

// Members handles GET /org/members.
func Members(s *org.Service) http.Handler {
	return handler(&membersRoute, func(r request[nothing]) (members, error) {
		limit, after, err := pageOf(r.query)
		if err != nil {
			return members{}, err
		}
		all, more, err := s.Members(r.http.Context(), r.caller, after, limit)
		page := members{Members: []listedMember{}}
		for _, m := range all {
			page.Members = append(page.Members, newListedMember(m))
			if more {
				page.Next = m.AdminID
			}
		}
		return page, err
	})
}

// ChangeRole handles PUT /org/members/{admin_id}.
func ChangeRole(s *org.Service) http.Handler {
	return repeatable(&changeRoleRoute, s, func(r request[org.RoleRequest]) (listedMember, error) {
		m, err := s.ChangeRole(r.http.Context(), r.caller, path.Base(r.http.URL.Path), r.content)
		return newListedMember(m), err
	}, func(r request[org.RoleRequest], _ org.Outcome, o org.Organization) (listedMember, error) {
		return memberOf(r.http.Context(), s, o, path.Base(r.http.URL.Path))
	})
}

// RemoveMember handles DELETE /org/members/{admin_id}.
func RemoveMember(s *org.Service) http.Handler {
	return repeatable(&removeMemberRoute, s, func(r request[nothing]) (nothing, error) {
		return nothing{}, s.RemoveMember(r.http.Context(), r.caller, path.Base(r.http.URL.Path))
	}, doneAgain)
}

func newListedMember(m org.ListedMember) listedMember {
	return listedMember{AdminID: m.AdminID, Email: m.Email, Role: m.Role, Since: Time(m.Since)}
}

// pageOf returns the page of a list that the client asks for.
func pageOf(query map[string]*string) (limit int, after string, err error) {
	limit = defaultLimit
	if text := query["limit"]; text != nil {
		limit, err = strconv.Atoi(*text)
		if err != nil || limit < 1 || limit > maxLimit || strconv.Itoa(limit) != *text {
			return 0, "", invalidParameter("limit", fmt.Sprintf("must be a number from 1 to %d", maxLimit))
		}
	}
	if text := query["after"]; text != nil {
		if after = *text; len(after) < 24 || strings.Trim(after, "0123456789abcdef") != "" {
			return 0, "", invalidParameter("after", "must be `next` of a page before")
		}
	}
	return limit, after, nil
}
